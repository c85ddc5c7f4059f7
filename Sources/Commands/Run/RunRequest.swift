import CLinux
import ContainerLaunch
import ContainerRuntime
import Diagnostics
import EtcdStore
import Glibc
import ImageStore
import JobModel
import JobNetwork
import LaunchPlan
import LinuxSystem
import OCIModel
import Orchestrator
import Processes
import ResourceManagers
import SiteConfiguration

/// What was typed, checked once and turned into something that can be done.
struct RunRequest {
    private(set) var options: RunOptions
    /// `run`, `exec` or `shell`.
    let verb: String
    /// IMAGE and what follows it, byte for byte.
    private(set) var words: [[UInt8]]
    /// How many of argv's last words `words` and `parts` came from.
    private let capturedCount: Int
    /// Further commands of the job, each with its image.
    private var parts: [JobParts.Part] = []
    /// What `-e` says of the first part's ranks alone, when there are others.
    private var firstEnvironment: [[UInt8]] = []
    private var firstTasks = 0
    let locations: Locations

    init(_ options: RunOptions, verb: String, wordCount: Int) {
        self.options = options
        self.verb = verb
        locations = .current()
        // The parser decodes arguments as UTF-8; the captured words are exactly the last of argv.
        let all = CallerArguments.bytes
        var words = Array(all.suffix(wordCount))
        if words.first == Array("--".utf8) { words.removeFirst() }
        self.words = words
        capturedCount = words.count
    }

    /// What was typed between the verb and IMAGE.
    var optionWords: [[UInt8]] {
        var typed = Array(CallerArguments.bytes.dropFirst(2).dropLast(capturedCount))
        if typed.last == Array("--".utf8) { typed.removeLast() }
        return typed
    }

    /// Runs the job and returns its exit status.
    mutating func execute() throws(Diagnostic) -> Int32 {
        if options.parallel.isParallel { try takeParts() }
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
        if let cluster = options.parallel.cluster { return try runInCluster(cluster) }
        let surroundings = Surroundings.current
        if options.parallel.isParallel, Detection.isFollower(surroundings) {
            // One job, not one per task of the step; the first task leads it.
            return options.parallel.asksItsSystem ? try Follower.serve(surroundings) : 0
        }
        var foreground: ForegroundProcess?
        if options.parallel.isParallel, !options.explain.isAsked, !options.process.tty {
            switch ForegroundProcess.split() {
            case .leader(let process): foreground = process
            case .shell(let status): return status
            }
        }
        var leader: JobLeader?
        defer {
            // Whatever ended this process before it had a job: the others do not wait for one.
            if options.parallel.isParallel, leader?.fanOut == nil { Follower.dismiss(surroundings) }
        }
        let image = try RemoteImage.resolve(name, resolver)
        try RemoteImage.admit(image, typed: name, resolver.store)
        resolver.store.noteUse(image)
        if options.explain.isAsked, options.explain.explain != .launch || !options.parallel.isParallel {
            return try explain(image)
        }
        guard options.parallel.isParallel else {
            if !options.parallel.mpiArgs.isEmpty {
                throw MPILaunch.noLauncher("this is one container and no job", ["-n RANKS"])
            }
            return try SingleRun.execute(plan(image), verb: verb, words: words, isQuiet: options.process.quiet)
        }
        let allocation = try self.allocation(surroundings)
        let plan = try self.plan(image)
        let specification = try self.specification(image, plan, allocation)
        var container = JobContainer(image: image, plan: plan, store: locations.store)
        if specification.model == .process { try fitOwnContainers(&container, specification, allocation) }
        if options.explain.explain == .launch {
            let survey = try LaunchSurvey(specification, container: container, allocation: allocation)
            Output.standard.write(bytes: Array(survey.text(specification, allocation).utf8))
            return 0
        }
        if !options.process.quiet { DeviceOptions.tell(ForeignVariables.notices(for: .launch)) }
        let made = try JobLeader(
            specification, container: container,
            allocation: allocation, port: UInt16(options.parallel.port),
            isQuiet: options.process.quiet, foreground: foreground)
        if specification.network == .job { made.subnet = try SubnetLease.take(for: specification.id) }
        made.etcd = try options.parallel.etcd()
        made.machine.setup.exitTimeoutMilliseconds = try options.parallel.exitTimeoutMilliseconds()
        made.isVerbose = options.parallel.verbose
        made.failsOnBrokenPipe = options.parallel.pipeFail
        leader = made
        return try made.run()
    }

    /// Further commands after a `:`; then `-e` is each part's own.
    private mutating func takeParts() throws(Diagnostic) {
        let typed = try JobParts(words)
        guard !typed.others.isEmpty else { return }
        guard let tasks = options.parallel.ntasks else {
            throw Diagnostic(
                DiagnosticCode("option-value"), ":", reasons: ["how many ranks the first part has is not said"],
                remedies: ["trireme \(verb) -n RANKS IMAGE COMMAND : -n RANKS IMAGE COMMAND"])
        }
        parts = typed.others
        if options.parallel.cluster == nil {
            words = typed.first
            firstEnvironment = try options.environment.entries()
            options.environment.env = []
        }
        firstTasks = tasks
        options.parallel.ntasks = parts.reduce(tasks) { $0 + $1.tasks }
    }

    /// The parts of a job of several commands; empty for one.
    private func jobParts(_ image: StoredImage, _ plan: LaunchPlan, first: [[UInt8]]) throws(Diagnostic) -> [JobPart] {
        if parts.isEmpty { return [] }
        var result = [JobPart(tasks: firstTasks, environment: firstEnvironment, command: first)]
        for part in parts {
            let name = String(decoding: part.words[0], as: UTF8.self)
            let other = try RemoteImage.resolve(name, resolver)
            try RemoteImage.admit(other, typed: name, resolver.store)
            guard other.record.manifest.digest == image.record.manifest.digest else {
                throw Diagnostic(
                    DiagnosticCode("parts-differ"), name,
                    reasons: [
                        "ranks of a node share one container, and the job's is made of \(image.name)"
                    ], remedies: ["one image with both programs", "one job per image"])
            }
            let command = command(plan, Array(part.words.dropFirst()))
            guard !command.isEmpty else { throw noCommand(name) }
            result.append(JobPart(tasks: part.tasks, environment: try part.environment.entries(), command: command))
        }
        return result
    }

    private func command(_ plan: LaunchPlan, _ typed: [[UInt8]]) -> [[UInt8]] {
        (verb == "run" ? plan.entrypoint : []) + (typed.isEmpty && verb == "run" ? plan.command : typed)
    }

    private func noCommand(_ image: String) -> Diagnostic {
        Diagnostic(DiagnosticCode("no-command"), image, reasons: ["the image names no command and none was typed"])
    }

    // MARK: Resources

    var resources: ResourceRequest {
        ResourceRequest(
            tasks: options.parallel.ntasks, nodes: options.parallel.nodes, tasksPerNode: options.parallel.ntasksPerNode,
            cpusPerTask: options.parallel.cpusPerTask)
    }

    private func allocation(_ surroundings: Surroundings) throws(Diagnostic) -> Allocation {
        let perTask = options.parallel.cpusPerTask ?? 1
        guard perTask >= 1 else {
            throw Diagnostic(DiagnosticCode("option-value"), "-c \(perTask)", reasons: ["must be at least 1"])
        }
        if var allocation = try options.parallel.allocation(in: surroundings) {
            // Slurm counts by it already where it was told.
            if allocation.system != "slurm" || surroundings.environment("SLURM_CPUS_PER_TASK") == nil {
                for index in allocation.nodes.indices { allocation.nodes[index].slots /= perTask }
            }
            return allocation
        }
        if (options.parallel.nodes ?? 1) == 1, options.parallel.launcher != "srun" {
            var mask = [UInt64](repeating: 0, count: 128)
            let bytes = Int(linux_sched_getaffinity(0, 1024, &mask))
            let processors = mask.prefix(max(0, bytes) / 8).reduce(0) { $0 + $1.nonzeroBitCount }
            // More ranks than processors is slow but legal on one's own machine.
            return LocalMachine.allocation(
                name: HostName.current,
                slots: max(processors / perTask, options.parallel.ntasks ?? 1, options.parallel.ntasksPerNode ?? 1))
        }
        throw Diagnostic(
            DiagnosticCode("no-allocation"), "this process",
            reasons: ["does not stand in a batch system's allocation, and several nodes were asked for"],
            remedies: Detection.requests(
                nodes: options.parallel.nodes ?? 1, tasks: options.parallel.ntasks ?? options.parallel.nodes ?? 1,
                command: "trireme run …", in: surroundings, isInstalled: SearchPath.has
            ) + [
                "trireme run --cluster NAME … (trireme cluster ls)",
                "trireme run --hostfile FILE … for machines reached by ssh",
            ])
    }

    private func specification(_ image: StoredImage, _ plan: LaunchPlan, _ allocation: Allocation) throws(Diagnostic)
        -> JobSpecification
    {
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
        guard options.parallel.grace >= 0, options.parallel.grace <= 3600, options.parallel.joinTimeout > 0,
            options.parallel.joinTimeout <= 86400,
            (0...65535).contains(options.parallel.port)
        else {
            throw Diagnostic(
                DiagnosticCode("option-value"), "--grace, --join-timeout or --port", reasons: ["out of range"])
        }
        let command = command(plan, Array(words.dropFirst()))
        guard !command.isEmpty else { throw noCommand(image.name) }
        var specification = JobSpecification(
            id: "\(allocation.jobID).\(RandomBytes.hex(RandomBytes.make(4)))",
            model: try choice("--model", options.parallel.model),
            launcher: try choice("--launcher", options.parallel.launcher),
            // Which library the ranks load says nothing about how they are wired.
            processManagement: try choice("--mpi", options.parallel.mpi == "host" ? "auto" : options.parallel.mpi),
            map: map, labelsOutput: options.parallel.labelIo, graceMilliseconds: options.parallel.grace * 1000,
            joinTimeoutMilliseconds: options.parallel.joinTimeout * 1000, command: command)
        specification.network = try network(on: map)
        let parts = try jobParts(image, plan, first: command)
        if !parts.isEmpty { specification.parts = parts }
        specification.ranks = try options.parallel.rankSettings()
        if options.process.tty { specification.ranks.terminal = JobLeader.terminalSize() }
        return specification
    }

    /// - Throws: `network-refused` where the job's nodes could not reach each other.
    private func network(on map: TaskMap) throws(Diagnostic) -> NetworkChoice {
        let choice = try options.isolation.networkChoice()
        let nodes = map.nodes.count
        if choice == .none, nodes > 1 {
            throw Diagnostic(
                DiagnosticCode("network-refused"), "--network none",
                reasons: ["the job has \(nodes) nodes, and its ranks could not reach each other"],
                remedies: ["--network job: a private network for the job's nodes", "-N 1"])
        }
        if choice == .job, nodes > JobSubnet.capacity {
            throw Diagnostic(
                DiagnosticCode("network-refused"), "--network job",
                reasons: ["a job's network has \(JobSubnet.capacity) addresses, the job \(nodes) nodes"],
                remedies: ["--network host"])
        }
        return choice
    }

    static func diagnostic(_ failure: TaskMap.Failure, _ allocation: Allocation) -> Diagnostic {
        let job = "job \(allocation.jobID)"
        switch failure {
        case .notPositive(let option, let value):
            return Diagnostic(
                DiagnosticCode("option-value"), "\(option) \(value)", reasons: ["must be at least 1"])
        case .tooFewNodes(let wanted, let available):
            return Diagnostic(
                DiagnosticCode("too-few-nodes"), job, reasons: ["has \(available) nodes, \(wanted) were asked for"],
                remedies: larger(nodes: wanted, tasks: nil, than: allocation))
        case .tooFewSlots(let wanted, let available, let nodes):
            return Diagnostic(
                DiagnosticCode("too-few-slots"), job,
                reasons: ["has room for \(available) ranks on \(nodes) nodes, \(wanted) were asked for"],
                remedies: larger(nodes: nil, tasks: wanted, than: allocation)
                    + ["trireme alloc show tells what the job has"])
        case .contradiction(let tasks, let nodes, let perNode):
            return Diagnostic(
                DiagnosticCode("option-value"), "-n \(tasks) -N \(nodes) --ntasks-per-node \(perNode)",
                reasons: ["\(nodes) × \(perNode) is less than \(tasks)"])
        }
    }

    /// In the words of the system that gave the allocation.
    private static func larger(nodes: Int?, tasks: Int?, than allocation: Allocation) -> [String] {
        Detection.manager(named: allocation.system)?
            .request(nodes: nodes, tasks: tasks, command: "trireme run …", in: .current).map { [$0] } ?? []
    }

    // MARK: The container

    private var resolver: ImageResolver {
        let isQuiet = options.process.quiet
        return ImageResolver(
            store: ImageStore(locations), account: { [home = locations.home] in .current(home: home) }
        ) { text in
            if !isQuiet, TransferProgress.isWanted { Output.standard.line("trireme: " + text, to: .progress) }
        }
    }

    private func plan(_ image: StoredImage) throws(Diagnostic) -> LaunchPlan {
        let context = self.context(image)
        var plan = try options.plan(in: context)
        if options.parallel.isParallel { plan.overrides += try options.parallel.rankVariables(plan.overrides) }
        if options.parallel.mpi == "host" {
            let typed = words.count > 1 ? words[1] : plan.entrypoint.first ?? plan.command.first ?? []
            try HostMPIOption.apply(to: &plan, command: String(decoding: typed, as: UTF8.self), in: context)
        }
        return plan
    }

    private func context(_ image: StoredImage) -> LaunchContext {
        let directory = getcwd(nil, 0)
        defer { free(directory) }
        return LaunchContext(
            image: image, verb: verb, isJob: options.parallel.isParallel,
            hasOwnContainers: options.parallel.model == ContainerModel.process.rawValue, locations: locations,
            directory: directory.map { String(cString: $0) })
    }

    /// What would happen, printed instead of done.
    private func explain(_ image: StoredImage) throws(Diagnostic) -> Int32 {
        let context = context(image)
        let report = PlanReport(
            image: image, plan: try options.plan(in: context), store: locations.store, verb: verb,
            words: Array(words.dropFirst()), asked: try options.environment.entries())
        try report.write(options.explain)
        return 0
    }
}

/// The container every node of a job makes.
struct JobContainer {
    var image: StoredImage
    var plan: LaunchPlan
    var store: String
    /// `-e` of the command line.
    var overrides: [[UInt8]] { plan.overrides }

    /// What its processes will see, as far as it lies in the image or is bound from this host.
    func files() throws(SyscallError) -> ContainerFiles {
        // What is wrong with a mount is said by the launch.
        let mounts = (try? plan.encoded())?.withUnsafeBytes { try? shownMounts(plan: $0, store: store).mounts } ?? []
        func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
        let directory = getcwd(nil, 0)
        defer { free(directory) }
        return ContainerFiles(
            try image.tree(),
            covers: mounts.map { mount in
                ContainerFiles.Cover(
                    destination: text(mount.destination), source: mount.kind == .bind ? text(mount.source) : nil)
            },
            directory: plan.workingDirectory.isEmpty
                ? directory.map { String(cString: $0) } ?? "/" : text(plan.workingDirectory))
    }
}

/// This process's arguments as bytes: an application's arguments need not be UTF-8.
enum CallerArguments {
    /// The bytes of an option's value that the parser decoded as `text`.
    static func typed(_ text: String, after options: [String]) -> [UInt8] {
        // Only bytes that are not UTF-8 were changed by decoding.
        guard text.unicodeScalars.contains("\u{FFFD}") else { return Array(text.utf8) }
        for word in bytes {
            if String(decoding: word, as: UTF8.self) == text { return word }
            for option in options where word.starts(with: option.utf8) {
                var value = word.dropFirst(option.utf8.count)
                if value.first == UInt8(ascii: "=") { value.removeFirst() }
                if String(decoding: value, as: UTF8.self) == text { return Array(value) }
            }
        }
        return Array(text.utf8)
    }

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
