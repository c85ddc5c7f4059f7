import CLinux
import Glibc
import LaunchPlan
import LinuxSystem

/// The program `trireme`: one launch, or the handing over to `trireme-cli`.
package enum Launcher {
    /// Becomes the application or `trireme-cli`; returns trireme's exit status when neither could be.
    package static func run(count: Int, arguments: CStringVector) -> Int32 {
        let host = UnsafePointer(linux_environ()!)
        var name = c("")
        do throws(LaunchFailure) {
            let line = try LaunchCommandLine(count: count, arguments: arguments)
            guard line.outcome == .launch else { throw handOver(arguments, host) }
            name = line.image
            throw try launch(line, arguments, host)
        } catch {
            return LaunchDiagnosis(error, image: name).report()
        }
    }

    private static func launch(
        _ line: LaunchCommandLine, _ arguments: CStringVector, _ host: UnsafePointer<UnsafeMutablePointer<CChar>?>
    ) throws(LaunchFailure) -> LaunchFailure {
        var store = StoreLookup(environment: host)
        let bytes: UnsafeRawBufferPointer
        if line.planDescriptor >= 0 {
            bytes = try planBytes(from: line.planDescriptor, c("--plan-fd"))
            close(line.planDescriptor)
        } else {
            guard let found = try store.findPlan(line.image) else {
                return handOver(arguments, host)
            }
            bytes = found
        }
        let plan: LaunchPlanReader
        do {
            plan = try LaunchPlanReader(validating: bytes)
        } catch {
            throw LaunchFailure(.readPlan, line.image, errno: EBADMSG)
        }
        let facts = PlanFacts(plan)
        if line.planDescriptor < 0, line.agentKey == nil, let name = facts.imageName,
            PolicyGlance.concerns(name, host)
        {
            return handOver(arguments, host)
        }
        var request = line.request
        if line.agentKey == nil {
            let foreign = ForeignSurvey(host)
            // A plan by descriptor has them already, and what was typed against them.
            if line.planDescriptor < 0 {
                request.options.formUnion(line.isReadOnly ? foreign.options.subtracting(.writable) : foreign.options)
            }
            if !line.isQuiet { foreign.report(host) }
        }
        var entry = ContainerEntry(
            plan: plan, facts: facts, request: request, store: store.root, host: host,
            typedImage: line.image)
        var command = try CommandExecution(
            arguments: composedArguments(line, plan, entry.facts),
            environment: ContainerEnvironment(
                image: plan, host: host, overrides: request.environment,
                options: entry.options))
        if let key = line.agentKey {
            let directory = currentDirectory()
            try joinAgent(key, host)
            try entry.enterStartDirectory(directory, makesMissing: false, MountList(capacity: 0))
            try dropPrivileges(filters: entry.filtersCalls)
        } else {
            if try isShared(&entry, bytes) { return becomes(command, line) }
            if entry.facts.hasLimits {
                entry.limits = try ContainerLimits(plan, isRelaxed: entry.options.contains(.relaxedLimits))
                if let group = entry.limits?.group, !entry.hasProcessNamespace {
                    try LimitKeeper.stand(group, image: line.image)
                }
            }
            try entry.enter()
            LonelyLauncher.settle(&command.environment)
        }
        command.environment.forgetMissingDirectories()
        return becomes(command, line)
    }

    private static func becomes(_ command: CommandExecution, _ line: LaunchCommandLine) -> LaunchFailure {
        if command.environment.hasScripts, line.agentKey == nil {
            let words = EnvironmentScripts.words()
            command.arguments[0] = UnsafeMutablePointer(mutating: words.0)
            command.arguments[1] = UnsafeMutablePointer(mutating: words.1)
            command.arguments[2] = UnsafeMutablePointer(mutating: words.2)
            command.arguments[3] = UnsafeMutablePointer(mutating: words.3)
        } else if line.verb == .shell, access(c("/bin/bash"), X_OK) == 0 {
            command.arguments[0] = UnsafeMutablePointer(mutating: c("/bin/bash"))
        }
        return command.become()
    }

    /// A rank among others on this node: inside the container that they share when this returns true.
    private static func isShared(
        _ entry: inout ContainerEntry, _ plan: UnsafeRawBufferPointer
    ) throws(LaunchFailure) -> Bool {
        guard StepJoin.isRank(entry.host) else { return false }
        let directory = currentDirectory()
        guard var step = StepJoin(entry, plan: plan, directory: directory) else { return false }
        switch step.meet() {
        case .alone: return false
        case .first:
            try entry.enter()
            step.open()
        case .joined:
            entry.closeDescriptors()
            try entry.enterStartDirectory(directory, makesMissing: false, MountList(capacity: 0))
            try dropPrivileges(filters: entry.filtersCalls)
        }
        return true
    }

    /// ENTRYPOINT, then the words after IMAGE or else the image's CMD (as docker);
    /// `exec` without ENTRYPOINT; `shell` is a shell. `--entrypoint` also drops the image's CMD.
    private static func composedArguments(
        _ line: LaunchCommandLine, _ plan: LaunchPlanReader, _ facts: PlanFacts
    ) throws(LaunchFailure) -> CStringVector {
        let vector = CStringVector.allocate(
            capacity: facts.entrypointCount + facts.commandCount + line.wordCount + 3 + EnvironmentScripts.wordCount)
        // Their words are known inside the container only (`becomes`). A rank's shim has them itself.
        let hasScripts = facts.options.contains(.environmentScripts) && line.agentKey == nil
        let first = hasScripts ? EnvironmentScripts.wordCount : 0
        var count = first
        func append(_ word: CString) {
            vector[count] = UnsafeMutablePointer(mutating: word)
            count += 1
        }
        switch line.verb {
        case .shell: append(c(hasScripts ? EnvironmentScripts.shell : "/bin/sh"))
        case .exec: break
        case .run:
            if let entrypoint = line.request.entrypoint {
                if entrypoint[0] != 0 { append(entrypoint) }
            } else {
                plan.forEach { if $0.tag == .entrypoint { append($0.cString) } }
            }
        }
        if line.wordCount > 0 {
            for index in 0..<line.wordCount { append(CString(line.words[index]!)) }
        } else if line.verb == .run, line.request.entrypoint == nil {
            plan.forEach { if $0.tag == .command { append($0.cString) } }
        }
        vector[count] = nil
        guard count > first else { throw LaunchFailure(.parseCommandLine, line.image, detail: c("CMD"), errno: EINVAL) }
        return vector
    }

    /// Becomes `trireme-cli`, which lies beside this program, with the same arguments.
    private static func handOver(
        _ arguments: CStringVector, _ host: UnsafePointer<UnsafeMutablePointer<CChar>?>
    ) -> LaunchFailure {
        let buffer = UnsafeMutablePointer<CChar>.allocate(capacity: 4096 + 16)
        var length = readlink(c("/proc/self/exe"), buffer, 4096)
        guard length > 0 else { return LaunchFailure(.handOver, "/proc/self/exe") }
        while length > 0, buffer[length - 1] != slash { length -= 1 }
        memcpy(buffer + length, c("trireme-cli"), 12)
        execve(buffer, arguments, host)
        return LaunchFailure(.handOver, CString(buffer))
    }
}
