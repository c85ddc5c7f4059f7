import ImageFormats
import LaunchPlan
import LinuxSystem
import OCIModel

/// The facts of one image, kept beside its plan (`images/<hex>/record.json`).
package struct ImageRecord: Codable, Sendable {
    /// The format of this file.
    package var version = 1
    package var manifest: Descriptor
    package var configuration: Digest
    package var platform: Platform
    /// RFC 3339, as the image's author wrote it.
    package var created: String?
    /// RFC 3339 in UTC.
    package var loaded: String
    /// Lowest first.
    package var layers: [Layer]
    package var mpi: [MPIInstallation]
    /// What extraction left out.
    package var skippedDevices: Int
    package var droppedAttributes: Int

    package struct Layer: Codable, Sendable {
        package var diffID: Digest
        package var blob: Descriptor
        /// Bytes of file content.
        package var unpackedBytes: Int64
        /// Hides every layer below it.
        package var isRootOpaque: Bool
    }

    package init(
        version: Int = 1, manifest: Descriptor, configuration: Digest, platform: Platform, created: String?,
        loaded: String, layers: [Layer], mpi: [MPIInstallation], skippedDevices: Int, droppedAttributes: Int
    ) {
        self.version = version
        self.manifest = manifest
        self.configuration = configuration
        self.platform = platform
        self.created = created
        self.loaded = loaded
        self.layers = layers
        self.mpi = mpi
        self.skippedDevices = skippedDevices
        self.droppedAttributes = droppedAttributes
    }

    /// Bytes of all layers' files.
    package var unpackedBytes: Int64 { layers.reduce(0) { $0 + $1.unpackedBytes } }
}

/// One MPI found in an image.
package struct MPIInstallation: Codable, Equatable, Sendable {
    package enum Family: String, Codable, Sendable { case openMPI = "openmpi", mpich }
    package var family: Family
    /// 4 for OpenMPI 4.1; 0 when the files do not say.
    package var major: Int
    /// The library that told, as a path in the image.
    package var library: String
    /// The soname applications are linked with (`libmpi.so.40`).
    package var sonames: [String]
    /// `mpirun` or `mpiexec`, a path in the image; nil when the image holds none.
    package var launcher: String?
    /// `orted`, `prted` or `hydra_pmi_proxy`.
    package var daemon: String?
    package init(
        family: Family, major: Int, library: String, sonames: [String], launcher: String?, daemon: String?
    ) {
        self.family = family
        self.major = major
        self.library = library
        self.sonames = sonames
        self.launcher = launcher
        self.daemon = daemon
    }
}

/// An image in the store, as seen by everyone else.
package struct StoredImage: Sendable {
    /// `x:tag`, or `sha256:<hex>` for an image without a name.
    package var name: String
    package var record: ImageRecord
    package var plan: LaunchPlan
    /// The encoded plan's file, absolute.
    package var planPath: String
    /// Absolute, topmost first: `lowerdir=` of an overlay mount.
    package var lowerDirectories: [String]
    /// The store it lies in, which may be another's.
    package var layout: StoreLayout
    /// The single-file image that it is, open for reading; nil for one in the store.
    package var file: SquashReader?

    /// What it holds, as a container sees it.
    package func tree() throws(SyscallError) -> MergedTree {
        if let file { return MergedTree(file) }
        return try MergedTree(lowerDirectories)
    }

    package init(
        name: String, record: ImageRecord, plan: LaunchPlan, planPath: String, lowerDirectories: [String],
        layout: StoreLayout, file: SquashReader? = nil
    ) {
        self.name = name
        self.record = record
        self.plan = plan
        self.planPath = planPath
        self.lowerDirectories = lowerDirectories
        self.layout = layout
        self.file = file
    }

    /// Not a file or a directory that is an image by itself.
    package var isStored: Bool { !planPath.isEmpty }

    package var hasName: Bool { !name.hasPrefix("sha256:") }
}
