extension DiagnosticCatalogue {
    /// Networks of jobs.
    static let network: [Entry] = [
        Entry(
            "network-refused", "the network asked for with --network cannot be made for this job",
            "'none' is for jobs on one node. 'job' over several nodes takes CAP_NET_ADMIN in the nodes' network, which "
                + "virtual clusters grant; the message names the node and the step. '--network host' always works."),
        Entry(
            "network-subnets", "no subnet for '--network job' could be reserved",
            "They are locked in the file 'networks' of the state directory, one byte each; a lock ends with its job. "
                + "The message names the system call."),
    ]
}
