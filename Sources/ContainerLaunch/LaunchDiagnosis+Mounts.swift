import Glibc

// Why a mount, or what must be written for one, failed.

extension LaunchDiagnosis {
    /// ENOSYS of a step that mounts: open_tree(2) and move_mount(2) are of Linux 5.2, mount_setattr(2) of 5.12.
    var oldKernelWords: Words? {
        switch failure.step {
        case .openSource, .mountRoot, .makeMountPoint, .attachMount, .maskSystem, .sealRoot: break
        default: return nil
        }
        return Words(
            code: "kernel-too-old", subject: image,
            reason: "this kernel, or a filter of an outer container, lacks a system call of Linux 5.12",
            hint: "boot a kernel of 5.12 or later (RHEL 9, Debian 12, Ubuntu 22.04, SLES 15 SP4); trireme doctor")
    }

    var mountWords: Words {
        var words = Words(code: "mount-refused", reason: "cannot mount here in the container", hint: "trireme doctor")
        if failure.detail != nil, failure.errno == EBUSY {
            words.reason = "a protected place of the container: / /proc and /sys cannot be covered"
            words.namesErrno = false
            words.hint = "choose another destination: -B SRC:/mnt"
            return words
        }
        switch failure.errno {
        case ENOENT:
            words.code = "bind-destination-missing"
            words.reason = "does not exist in the container and cannot be made there"
            words.namesErrno = false
            words.hint = "inside a directory of the host the destination must exist: create it there first"
        case ENOTDIR:
            words.reason = "a directory can only be mounted on a directory, a file on a file"
            words.hint = "choose a destination of the same kind as the source"
        case EOVERFLOW:
            words.reason = "the image's directory there belongs to someone else, and nothing can be made in it"
            words.namesErrno = false
            words.hint = "choose a destination elsewhere, or load the image into a store of your own"
        case ENOSPC, EDQUOT, EROFS: words = fullWords
        default: break
        }
        return words
    }

    var sourceWords: Words {
        var words = Words(
            code: "bind-source-missing", reason: "cannot be mounted into the container",
            hint: "check the path on this host (bind SRC:DST takes SRC from the host); trireme never creates it")
        guard let detail = failure.detail else { return words }
        if isEqual(detail, "bind"), failure.errno == EINVAL {
            words.code = "mount-refused"
            words.reason = "what is mounted below it cannot be left out without privileges"
            words.namesErrno = false
            words.hint = "leave the option 'bind' out: a bind takes what is mounted below with it"
        } else if isEqual(detail, "tmpfs") {
            words.code = "mount-refused"
            words.reason = "not options of a tmpfs"
            words.hint = "tmpfs-size=64m, tmpfs-mode=1777"
        }
        return words
    }

    var overlayWords: Words {
        var words = Words(
            code: "overlay-refused", reason: "cannot keep the container's changes", hint: "trireme doctor")
        switch failure.errno {
        case EBUSY:
            words.code = "overlay-busy"
            words.reason = "another container is writing to this overlay"
            words.namesErrno = false
            words.hint = "wait for it to end, or read it at the same time with --overlay DIR:ro"
        case ENOENT, ENOTDIR:
            words.hint = "make the directory first: mkdir DIR"
        case EINVAL, EOPNOTSUPP, EPERM:
            words.reason = "its file system cannot hold an overlay (it needs user xattrs; NFS and Lustre lack them)"
            words.hint = "use a directory on a local disk or in /tmp"
        case ENOSPC, EDQUOT, EROFS: words = fullWords
        default: break
        }
        return words
    }

    /// The launcher's own writes: into the upper layer's tmpfs, an overlay, or a file it shows.
    private var fullWords: Words {
        var words = Words(code: "container-space", reason: "cannot be written while the container is made")
        words.hint =
            failure.errno == EROFS
            ? "the directory is read-only here: choose another"
            : "df -h and df -i show which file system is full (a tmpfs takes memory)"
        return words
    }
}
