import CLinux
import ContainerRuntime
import Diagnostics
import Glibc
import ImageStore
import JobModel
import LaunchPlan
import LinuxSystem
import NodeAgent
import ResourceManagers
import SiteConfiguration
import VirtualCluster

/// What was typed, checked once and turned into something that can be done.
struct RunRequest {
    private let options: RunOptions
    /// `run`, `exec` or `shell`.
    private let verb: String
    /// IMAGE and what follows it, byte for byte.
    private let words: [[UInt8]]
    private let locations: Locations

    init(_ options: RunOptions, verb: String, wordCount: Int) {
        self.options = options
        self.verb = verb
        locations = .current()
        // The parser decodes arguments as UTF-8; the captured words are exactly the last of argv.
        let all = CallerArguments.bytes
        var words = Array(all.suffix(wordCount))
        if words.first == Array("--".utf8) { words.removeFirst() }
        self.words = words
    }

    /// What was typed between the verb and IMAGE.
    private var optionWords: [[UInt8]] {
        var typed = Array(CallerArguments.bytes.dropFirst(2).dropLast(words.count))
        if typed.last == Array("--".utf8) { typed.removeLast() }
        return typed
    }

    private var isParallel: Bool {
        options.ntasks != nil || options.nodes != nil || options.ntasksPerNode != nil || options.cluster != nil
    }

    /// Runs the job and returns its exit status.
    func execute() throws(Diagnostic) -> Int32 {
        guard let imageWord = words.first else {
            throw Diagnostic(
                DiagnosticCode("no-image"), verb, reasons: ["no image named"],
                remedies: ["trireme \(verb) IMAGE COMMAND", "trireme image ls"])
        }
        let name = String(decoding: imageWord, as: UTF8.self)
        if verb == "exec", words.count == 1 {
            throw Diagnostic(
                DiagnosticCode("no-command"), name, reasons: ["exec needs a command: it does not use the image's own"],
                remedies: ["trireme exec \(name) COMMAND", "trireme run \(name)", "trireme shell \(name)"])
        }
        if let cluster = options.cluster { return try runInCluster(cluster) }
        let environment = { (name: String) in getenv(name).map { String(cString: $0) } }
        if isParallel, SlurmEnvironment.isFollower(environment) {
            // One job, not one per task of the step; the first task leads it.
            return 0
        }
        let image = try ImageResolver(store: ImageStore(root: locations.store)).resolve(name)
        guard isParallel else {
            return try SingleRun.execute(image, verb: verb, optionWords: optionWords, words: words)
        }
        let allocation = try self.allocation(environment)
        let specification = try self.specification(image, allocation)
        return try JobLeader(
            specification, container: try container(image), allocation: allocation, port: UInt16(options.port),
            isQuiet: options.quiet
        ).run()
    }

    // MARK: Resources

    private var resources: ResourceRequest {
        ResourceRequest(tasks: options.ntasks, nodes: options.nodes, tasksPerNode: options.ntasksPerNode)
    }

    private func allocation(_ environment: (String) -> String?) throws(Diagnostic) -> Allocation {
        if let allocation = try Detection.allocation(environment: environment) { return allocation }
        if (options.nodes ?? 1) == 1, options.model == "node" {
            var mask = [UInt64](repeating: 0, count: 128)
            let bytes = Int(linux_sched_getaffinity(0, 1024, &mask))
            let processors = mask.prefix(max(0, bytes) / 8).reduce(0) { $0 + $1.nonzeroBitCount }
            var name = [CChar](repeating: 0, count: 256)
            gethostname(&name, 255)
            let host = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            // More ranks than processors is slow but legal on one's own machine.
            return LocalMachine.allocation(
                name: host, slots: max(processors, options.ntasks ?? 1, options.ntasksPerNode ?? 1))
        }
        throw Diagnostic(
            DiagnosticCode("no-allocation"), "this process",
            reasons: ["does not stand in a Slurm allocation, and several nodes were asked for"],
            remedies: [
                "salloc -N \(options.nodes ?? 1) -n \(options.ntasks ?? options.nodes ?? 1) trireme run …",
                "trireme run --cluster NAME … (trireme cluster ls)",
            ])
    }

    private func specification(_ image: StoredImage, _ allocation: Allocation) throws(Diagnostic) -> JobSpecification {
        let map: TaskMap
        do throws(TaskMap.Failure) { map = try TaskMap(placing: resources, on: allocation) } catch {
            throw Self.diagnostic(error, allocation)
        }
        func choice<C: RawRepresentable & CaseIterable>(_ option: String, _ text: String) throws(Diagnostic) -> C
        where C.RawValue == String {
            if let value = C(rawValue: text) { return value }
            throw Diagnostic(
                DiagnosticCode("option-value"), "\(option) \(text)", reasons: ["unknown value"],
                remedies: ["one of: " + C.allCases.map(\.rawValue).joined(separator: ", ")])
        }
        guard options.grace >= 0, options.grace <= 3600, options.joinTimeout > 0, options.joinTimeout <= 86400,
            (0...65535).contains(options.port)
        else {
            throw Diagnostic(
                DiagnosticCode("option-value"), "--grace, --join-timeout or --port", reasons: ["out of range"])
        }
        let typed = Array(words.dropFirst())
        var entrypoint = verb == "run" ? image.plan.entrypoint : []
        if let text = options.entrypoint { entrypoint = text.isEmpty ? [] : [Array(text.utf8)] }
        let command = entrypoint + (typed.isEmpty && options.entrypoint == nil ? image.plan.command : typed)
        guard !command.isEmpty else {
            throw Diagnostic(
                DiagnosticCode("no-command"), image.name, reasons: ["the image names no command and none was typed"])
        }
        return JobSpecification(
            id: "\(allocation.jobID).\(RandomBytes.hex(RandomBytes.make(4)))",
            model: try choice("--model", options.model),
            launcher: try choice("--launcher", options.launcher), processManagement: try choice("--mpi", options.mpi),
            map: map, labelsOutput: options.labelIo, graceMilliseconds: options.grace * 1000,
            joinTimeoutMilliseconds: options.joinTimeout * 1000, command: command)
    }

    private static func diagnostic(_ failure: TaskMap.Failure, _ allocation: Allocation) -> Diagnostic {
        let job = "job \(allocation.jobID)"
        switch failure {
        case .notPositive(let option, let value):
            return Diagnostic(
                DiagnosticCode("option-value"), "\(option) \(value)", reasons: ["must be at least 1"])
        case .tooFewNodes(let wanted, let available):
            return Diagnostic(
                DiagnosticCode("too-few-nodes"), job, reasons: ["has \(available) nodes, \(wanted) were asked for"],
                remedies: ["salloc -N \(wanted) …"])
        case .tooFewSlots(let wanted, let available, let nodes):
            return Diagnostic(
                DiagnosticCode("too-few-slots"), job,
                reasons: ["has room for \(available) ranks on \(nodes) nodes, \(wanted) were asked for"],
                remedies: ["salloc -n \(wanted) …", "squeue -j \(allocation.jobID) -o '%N %C'"])
        case .moreNodesThanTasks(let nodes, let tasks):
            return Diagnostic(
                DiagnosticCode("option-value"), "-n \(tasks) -N \(nodes)",
                reasons: ["fewer ranks than nodes"], remedies: ["-n \(nodes) or more, or -N \(tasks)"])
        case .contradiction(let tasks, let nodes, let perNode):
            return Diagnostic(
                DiagnosticCode("option-value"), "-n \(tasks) -N \(nodes) --ntasks-per-node \(perNode)",
                reasons: ["\(nodes) × \(perNode) is less than \(tasks)"])
        }
    }

    // MARK: The container

    private func container(_ image: StoredImage) throws(Diagnostic) -> JobContainer {
        var plan = image.plan
        if let directory = options.workdir { plan.workingDirectory = Array(directory.utf8) }
        if options.writableTmpfs { plan.options.insert(.writable) }
        if options.cleanEnv { plan.options.insert(.cleanEnvironment) }
        if options.user == "image" { plan.options.insert(.imageUser) }
        if options.home == "none" || options.noHome { plan.options.insert(.noHome) }
        for text in options.bind {
            let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            guard parts.count <= 3, parts[0].hasPrefix("/"), parts.count < 3 || ["ro", "rw"].contains(parts[2]) else {
                throw Diagnostic(
                    DiagnosticCode("option-value"), "--bind \(text)",
                    reasons: ["not /SRC[:/DST[:ro]] (in a job, sources are absolute: they are looked up on every node)"]
                )
            }
            plan.mounts.append(
                LaunchPlan.Mount(
                    source: parts[0], destination: parts.count > 1 ? parts[1] : parts[0],
                    isReadOnly: parts.count == 3 && parts[2] == "ro"))
        }
        var overrides: [[UInt8]] = []
        for entry in options.env {
            if entry.contains("=") {
                overrides.append(Array(entry.utf8))
            } else if let value = getenv(entry) {
                overrides.append(EnvironmentBlock.entry(entry, String(cString: value)))
            }
        }
        return JobContainer(image: image, plan: plan, store: locations.store, overrides: overrides)
    }

    // MARK: Another cluster

    /// `salloc … trireme run …` in the cluster's controller. A killed `trireme` ends salloc by
    /// SIGTERM, which gives the allocation back.
    private func runInCluster(_ name: String) throws(Diagnostic) -> Int32 {
        try refuseOversized(for: ClusterCommand.registry.running(name))
        var forwarded: [String] = []
        var skipsNext = false
        for word in optionWords.map({ String(decoding: $0, as: UTF8.self) }) {
            if skipsNext {
                skipsNext = false
            } else if word == "--cluster" {
                skipsNext = true
            } else if !word.hasPrefix("--cluster=") {
                forwarded.append(word)
            }
        }
        if options.ntasks == nil, options.nodes == nil, options.ntasksPerNode == nil { forwarded += ["-n", "1"] }
        let program: String
        do throws(SyscallError) { program = try Locations.programDirectory() + "/trireme" } catch {
            throw Diagnostic(DiagnosticCode("installation"), "/proc/self/exe", reasons: [error.sentence])
        }
        var environment = CallerEnvironment.entries.filter { !$0.hasPrefix("TRIREME_STORE=") }
        environment.append("TRIREME_STORE=\(locations.store)")
        let directory = getcwd(nil, 0)
        defer { free(directory) }
        // salloc must hear the SIGTERM it gets when we die, whatever our own caller blocks.
        _ = linux_sigprocmask(SIG_SETMASK, 0, nil)
        let command = SlurmCommands.allocation(
            for: resources,
            command: [program, verb] + forwarded + words.map { String(decoding: $0, as: UTF8.self) })
        return try VirtualCluster.execute(
            inCluster: name, registry: ClusterCommand.registry, command: command, environment: environment,
            directory: directory.map { String(cString: $0) } ?? locations.home, parentDeathSignal: SIGTERM)
    }

    /// Slurm's own answer to too large a request names neither the cluster nor what it has.
    private func refuseOversized(for cluster: ClusterRecord) throws(Diagnostic) {
        let nodes = cluster.nodes.filter { $0.name != "ctl" }
            .map { Allocation.Node(name: $0.name, slots: cluster.cpusPerNode) }
        let all = Allocation(system: "slurm", jobID: "", nodes: nodes)
        do throws(TaskMap.Failure) { _ = try TaskMap(placing: resources, on: all) } catch {
            var diagnostic = Self.diagnostic(error, all)
            if ["too-few-nodes", "too-few-slots"].contains(diagnostic.code.rawValue) {
                diagnostic.subject = "cluster '\(cluster.name)'"
                diagnostic.remedies = [
                    "trireme cluster create NAME --nodes NODES --cpus CPUS makes a larger one; CPUs may exceed this machine's"
                ]
            }
            throw diagnostic
        }
    }
}

/// The container every node of a job makes.
struct JobContainer {
    var image: StoredImage
    var plan: LaunchPlan
    var store: String
    /// `-e` of the command line.
    var overrides: [[UInt8]]
}

/// This process's arguments as bytes: an application's arguments need not be UTF-8.
enum CallerArguments {
    static var bytes: [[UInt8]] {
        (0..<Int(CommandLine.argc)).compactMap { index in
            CommandLine.unsafeArgv[index].map { word in
                word.withMemoryRebound(to: UInt8.self, capacity: strlen(word)) {
                    Array(UnsafeBufferPointer(start: $0, count: strlen(word)))
                }
            }
        }
    }
}
