import ImageStore

/// An image as data for another container: its own layers without the prepared one, which holds mount
/// points and accounts for running it.
package enum DataLayers {
    /// Absolute, topmost first.
    package static func directories(of image: StoredImage) -> [String] {
        // The prepared layer is the only one that is not named by its content (`images/<hex>/prepared`).
        image.lowerDirectories.filter { !$0.hasSuffix("/prepared") }
    }

    /// Paths of a `lowerdir=`: `:` separates them and `,` options; `\` quotes (overlayfs.rst).
    package static func stack(_ directories: [String]) -> String {
        directories.map { path in
            path.reduce(into: "") { text, character in
                if [":", ",", "\\"].contains(character) { text.append("\\") }
                text.append(character)
            }
        }.joined(separator: ":")
    }
}
