import Glibc

/// The steps between the command line and the application, in their order.
package enum LaunchStep: UInt8, Sendable {
    case parseCommandLine
    case readPlan
    case connectToAgent
    case joinAgent
    case openImage
    case serveImage
    case joinImage
    case unpackImage
    case createNamespaces
    case mapIdentity
    case openSource
    case mountRoot
    case mountOverlay
    case enterRoot
    case makeMountPoint
    case attachMount
    case writeFile
    case mountSystem
    case maskSystem
    case sealRoot
    case enterDirectory
    case dropPrivileges
    case makeTerminal
    case filterCalls
    case findCommand
    case execute
    case handOver
    case applyLimits
}

/// A step that failed: which, with what errno, on what.
package struct LaunchFailure: Error, @unchecked Sendable {
    package let step: LaunchStep
    package let errno: Int32
    /// The path or word the step was about; lives as long as the process.
    package let subject: CString
    /// One more fact of the cause (the PATH that was searched, a bind's source).
    package let detail: CString?

    package init(_ step: LaunchStep, _ subject: CString, detail: CString? = nil, errno: Int32 = Glibc.errno) {
        self.step = step
        self.errno = errno
        self.subject = subject
        self.detail = detail
    }

    init(_ step: LaunchStep, _ subject: StaticString, detail: CString? = nil, errno: Int32 = Glibc.errno) {
        self.init(step, c(subject), detail: detail, errno: errno)
    }

    /// 127 when the command does not exist, 126 when it cannot be executed, 125 for every failure of ours.
    package var exitStatus: Int32 {
        switch step {
        case .findCommand: 127
        case .execute: 126
        default: 125
        }
    }
}
