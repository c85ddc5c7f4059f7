extension DiagnosticCatalogue {
    /// What the device options and the host's libraries say.
    static let devices: [Entry] = [
        Entry(
            "gpu-missing", "GPUs were asked for, and this host has no driver loaded",
            "The message names what was looked for. Run on a node with GPUs; 'trireme doctor' has a line about them."),
        Entry(
            "gpu-libraries", "the GPU driver's libraries are missing on the host, or cannot be loaded in this image",
            "A library of the host needs a C library at least as new as the one it was built for. Install the driver's "
                + "libraries, or use an image with a newer C library (glibc; not musl)."),
        Entry(
            "gpu-unknown", "no GPU of this host has that index or UUID, or there are not that many",
            "'nvidia-smi -L' lists them; '--gpus all' takes every one."),
        Entry(
            "gpu-not-granted", "more GPUs were asked for than the batch system granted",
            "CUDA_VISIBLE_DEVICES (ROCR_VISIBLE_DEVICES, ZE_AFFINITY_MASK) is the grant; it is never widened."),
        Entry(
            "device-missing", "a device node does not exist on this host, or may not be opened",
            "'ls -l PATH' shows it; its driver may not be loaded here."),
        Entry(
            "cdi-unknown", "no CDI specification defines this device",
            "Specifications lie in /etc/cdi and /var/run/cdi; 'nvidia-ctk cdi generate' writes NVIDIA's."),
        Entry(
            "cdi-invalid", "a CDI specification cannot be read, or says something trireme does not do",
            "The message names the file and the reason. Write it anew with the vendor's tool."),
        Entry(
            "mpi-host", "the host's MPI cannot take the place of the image's",
            "Both must be of one family and one soname (libmpi.so.12 of MPICH's ABI, libmpi.so.40 of Open MPI). "
                + "Leave out '--mpi host' to use the image's own."),
    ]
}
