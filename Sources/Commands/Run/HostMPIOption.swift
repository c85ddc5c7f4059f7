import ContainerRuntime
import Diagnostics
import ImageStore
import LaunchPlan
import LinuxSystem

/// `--mpi host`: the host's MPI in the place of the image's.
enum HostMPIOption {
    /// - Parameter command: what will run; it tells which of several MPIs is meant.
    /// - Throws: `mpi-host`.
    static func apply(to plan: inout LaunchPlan, command: String, in context: LaunchContext) throws(Diagnostic) {
        let integration = try HostIntegration(context, searchesCallersPath: true)
        let installation = try installation(of: context.image, command: command)
        var devices = integration.devicePlan()
        try HostMPI(host: integration.libraries, image: integration.image)
            .add(installation, imageName: context.image.name, to: &devices)
        devices.apply(to: &plan)
        LibraryInjection.finish(&plan)
        DeviceOptions.tell(devices.notes)
    }

    private static func installation(of image: StoredImage, command: String) throws(Diagnostic) -> MPIInstallation {
        let detected: DetectedMPI?
        do throws(SyscallError) { detected = try MPIDetection.detect(image: image, command: command) } catch {
            throw Diagnostic(DiagnosticCode("store-unusable"), image.name, reasons: [error.sentence])
        }
        if let detected { return detected.installation }
        throw Diagnostic(
            DiagnosticCode("mpi-host"), image.name,
            reasons: [
                image.record.mpi.isEmpty
                    ? "the image has no MPI that the host's could replace"
                    : "the image has several MPIs, and '\(command)' does not tell which it uses"
            ], remedies: ["leave out '--mpi host'"])
    }
}
