extension LaunchPlan {
    /// The encoded form read by `LaunchPlanReader`.
    package func encoded() throws(LaunchPlanError) -> [UInt8] {
        var encoder = Encoder()
        try encoder.addAll(.layer, layers)
        try encoder.addAll(.environment, environment)
        try encoder.addAll(.override, overrides)
        try encoder.addAll(.entrypoint, entrypoint)
        try encoder.addAll(.command, command)
        if !workingDirectory.isEmpty { try encoder.add(.workingDirectory, workingDirectory) }
        if !user.isEmpty { try encoder.add(.user, user) }
        if let userID { try encoder.add(.userID, userID) }
        if let groupID { try encoder.add(.groupID, groupID) }
        if !stopSignal.isEmpty { try encoder.add(.stopSignal, stopSignal) }
        try encoder.addAll(.mountPoint, mountPoints)
        if let preparedForUID { try encoder.add(.preparedForUID, preparedForUID) }
        if !imageName.isEmpty { try encoder.add(.imageName, Array(imageName.utf8)) }
        if !imageDigest.isEmpty { try encoder.add(.imageDigest, Array(imageDigest.utf8)) }
        if options != [] { try encoder.add(.options, options.rawValue) }
        if !imageFile.isEmpty { try encoder.add(.imageFile, Array(imageFile.utf8)) }
        for mount in mounts {
            try encoder.add(.mountSource, Array(mount.source.utf8))
            try encoder.add(.mountDestination, Array(mount.destination.utf8))
            try encoder.add(.mountFlags, mount.flags)
        }
        for file in files {
            try encoder.add(.fileDestination, Array(file.destination.utf8))
            try encoder.add(.fileContent, file.content)
        }
        try encoder.addAll(.bind, binds)
        if !overlay.isEmpty { try encoder.add(.overlay, overlay) }
        if unshare != 0 { try encoder.add(.unshare, unshare) }
        if !hostName.isEmpty { try encoder.add(.hostName, hostName) }
        if !uidMap.isEmpty { try encoder.add(.uidMap, uidMap) }
        if !gidMap.isEmpty { try encoder.add(.gidMap, gidMap) }
        if let keptDescriptors { try encoder.add(.keptDescriptors, keptDescriptors) }
        try encoder.addAll(.limit, limits)
        try encoder.addAll(.resourceLimit, resourceLimits)
        if let sharedMemory { try encoder.add(.sharedMemory, Array("\(sharedMemory)".utf8)) }
        if let timeout { try encoder.add(.timeout, timeout) }
        if let grace { try encoder.add(.grace, grace) }
        if let stopSignalNumber { try encoder.add(.stopSignalNumber, stopSignalNumber) }
        if skippedIDs != 0 { try encoder.add(.skippedIDs, skippedIDs) }
        return try encoder.finished()
    }

    /// The value behind encoded bytes.
    package init(decoding bytes: [UInt8]) throws(LaunchPlanError) {
        self.init()
        var failure: LaunchPlanError?
        var plan = LaunchPlan()
        bytes.withUnsafeBytes { raw in
            do throws(LaunchPlanError) {
                let reader = try LaunchPlanReader(validating: raw)
                reader.forEach { plan.take($0) }
            } catch { failure = error }
        }
        if let failure { throw failure }
        self = plan
    }

    private mutating func take(_ record: LaunchPlanReader.Record) {
        func text() -> String { String(decoding: record.payload, as: UTF8.self) }
        switch record.tag {
        case .layer: layers.append(text())
        case .environment: environment.append(Array(record.payload))
        case .override: overrides.append(Array(record.payload))
        case .entrypoint: entrypoint.append(Array(record.payload))
        case .command: command.append(Array(record.payload))
        case .workingDirectory: workingDirectory = Array(record.payload)
        case .user: user = Array(record.payload)
        case .userID: userID = record.number
        case .groupID: groupID = record.number
        case .stopSignal: stopSignal = Array(record.payload)
        case .mountPoint: mountPoints.append(text())
        case .preparedForUID: preparedForUID = record.number
        case .imageName: imageName = text()
        case .imageDigest: imageDigest = text()
        case .imageFile: imageFile = text()
        case .options: options = Options(rawValue: record.number)
        case .mountSource: mounts.append(Mount(source: text(), destination: ""))
        case .mountDestination: mounts[mounts.count - 1].destination = text()
        case .mountFlags: mounts[mounts.count - 1].flags = record.number
        case .fileDestination: files.append(File(destination: text(), content: []))
        case .fileContent: files[files.count - 1].content = Array(record.payload)
        case .bind: binds.append(Array(record.payload))
        case .overlay: overlay = Array(record.payload)
        case .unshare: unshare = record.number
        case .hostName: hostName = Array(record.payload)
        case .uidMap: uidMap = Array(record.payload)
        case .gidMap: gidMap = Array(record.payload)
        case .keptDescriptors: keptDescriptors = record.number
        case .limit: limits.append(text())
        case .resourceLimit: resourceLimits.append(text())
        case .sharedMemory: sharedMemory = UInt64(text())
        case .timeout: timeout = record.number
        case .grace: grace = record.number
        case .stopSignalNumber: stopSignalNumber = record.number
        case .skippedIDs: skippedIDs = record.number
        }
    }

    private struct Encoder {
        private var bytes: [UInt8] = [UInt8]("TRPLAN01".utf8) + [0, 0, 0, 0, 0, 0, 0, 0]
        private var count = 0

        mutating func addAll(_ tag: LaunchPlanTag, _ values: [String]) throws(LaunchPlanError) {
            for value in values { try add(tag, Array(value.utf8)) }
        }
        mutating func addAll(_ tag: LaunchPlanTag, _ values: [[UInt8]]) throws(LaunchPlanError) {
            for value in values { try add(tag, value) }
        }
        mutating func add(_ tag: LaunchPlanTag, _ number: UInt32) throws(LaunchPlanError) {
            try add(tag, withUnsafeBytes(of: number.littleEndian) { Array($0) })
        }
        mutating func add(_ tag: LaunchPlanTag, _ payload: [UInt8]) throws(LaunchPlanError) {
            if !tag.isNumber, tag != .fileContent, payload.contains(0) { throw .embeddedNUL(tag.rawValue) }
            guard payload.count < LaunchPlanLimit.totalBytes else { throw .tooLarge }
            count += 1
            guard count <= LaunchPlanLimit.records else { throw .tooManyRecords }
            append(tag.rawValue)
            append(UInt16(0))
            append(UInt32(payload.count))
            bytes.append(contentsOf: payload)
            repeat { bytes.append(0) } while bytes.count % 8 != 0
            guard bytes.count <= LaunchPlanLimit.totalBytes else { throw .tooLarge }
        }
        mutating func finished() throws(LaunchPlanError) -> [UInt8] {
            var result = bytes
            result.replaceSubrange(8..<12, with: withUnsafeBytes(of: UInt32(bytes.count).littleEndian) { Array($0) })
            result.replaceSubrange(12..<16, with: withUnsafeBytes(of: UInt32(count).littleEndian) { Array($0) })
            return result
        }
        private mutating func append<N: FixedWidthInteger>(_ number: N) {
            withUnsafeBytes(of: number.littleEndian) { bytes.append(contentsOf: $0) }
        }
    }
}

extension LaunchPlan.Mount {
    /// The flags' record.
    fileprivate var flags: UInt32 {
        get {
            (isReadOnly ? 1 : 0) | (isOptional ? 2 : 0) | (isTemporary ? 4 : 0) | (isNotExecutable ? 8 : 0)
                | (isUserRequest ? 16 : 0) | (isStack ? 32 : 0) | (isWithoutSubmounts ? 64 : 0)
                | (isImageFile ? 128 : 0)
        }
        set {
            isReadOnly = newValue & 1 != 0
            isOptional = newValue & 2 != 0
            isTemporary = newValue & 4 != 0
            isNotExecutable = newValue & 8 != 0
            isUserRequest = newValue & 16 != 0
            isStack = newValue & 32 != 0
            isWithoutSubmounts = newValue & 64 != 0
            isImageFile = newValue & 128 != 0
        }
    }
}
