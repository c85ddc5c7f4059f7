/// The texts of /etc that all nodes share. Pure.
package enum NodeFiles {
    /// hosts(5): every node by name, the controller by two.
    package static func hosts(_ nodes: [ClusterNode]) -> String {
        "127.0.0.1 localhost\n"
            + nodes.map { node in
                "\(node.addressText) \(node.name)" + (node.isController ? " \(ClusterNode.controllerAlias)" : "") + "\n"
            }.joined()
    }

    /// passwd(5) of the image with the account in front; lines of the image that
    /// claim the same name or uid give way.
    package static func passwd(image: String, account: ClusterSpecification.Account) -> String {
        let own = "\(account.user):x:\(account.uid):\(account.gid):\(account.user):\(account.home):/bin/bash"
        return merged(own, image: image, name: account.user, id: account.uid)
    }

    /// group(5), by the same rule.
    package static func group(image: String, account: ClusterSpecification.Account) -> String {
        merged("\(account.group):x:\(account.gid):", image: image, name: account.group, id: account.gid)
    }

    private static func merged(_ own: String, image: String, name: String, id: UInt32) -> String {
        let others = image.split(separator: "\n").filter { line in
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            return fields.count > 2 && fields[0] != name && fields[2] != "\(id)"
        }
        return ([own[...]] + others).map { $0 + "\n" }.joined()
    }
}
