import ContainerRuntime
import Diagnostics
import JobModel
import LaunchPlan

/// What cannot be where every rank has a container of its own (`--model process`).
extension RunRequest {
    func fitOwnContainers(
        _ container: inout JobContainer, _ job: JobSpecification, _ allocation: Allocation
    ) throws(Diagnostic) {
        try Self.refuseWhatRanksShare(container.plan, job.network)
        // Open MPI takes the shared memory of a process with its own id for its own; UCX, which MPICH uses, looks for
        // a process with the other's id, and finds itself where they are equal.
        let flavour = try LaunchSurvey(job, container: container, allocation: allocation).detected?.flavour
        if case .openMPI = flavour { container.plan.skippedIDs = 1 }
    }

    private static func refuseWhatRanksShare(_ plan: LaunchPlan, _ network: NetworkChoice) throws(Diagnostic) {
        if network != .host {
            throw Diagnostic(
                DiagnosticCode("network-refused"), "--network \(network.rawValue)",
                reasons: [
                    "with --model process the ranks of a node would have a network each and not reach each other"
                ],
                remedies: ["--model node: one container and one network for the ranks of a node"])
        }
        if let bytes = plan.sharedMemory {
            throw Diagnostic(
                DiagnosticCode("option-value"), "--shm-size \(bytes)",
                reasons: [
                    "with --model process a rank's /dev/shm of its own would keep MPI from the node's other ranks"
                ],
                remedies: ["leave it out: the ranks of a node share its /dev/shm", "--model node"])
        }
        if !plan.overlay.isEmpty {
            throw Diagnostic(
                DiagnosticCode("option-value"), "--overlay \(String(decoding: plan.overlay, as: UTF8.self))",
                reasons: ["one container at a time writes there, and with --model process every rank has one"],
                remedies: ["--model node", "--writable-tmpfs: each rank its own, in memory"])
        }
    }
}
