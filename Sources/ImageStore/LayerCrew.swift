import ImageFormats
import LinuxSystem

/// The threads that import the layers of one image side by side.
final class LayerCrew: Sendable {
    struct Job: Sendable {
        let layer: IncomingLayer
        /// Where its blob is written while it is read.
        let blobPath: String
        /// Where it is unpacked.
        let directory: String
        /// The directories of the layers below, topmost first.
        let lower: [String]
        /// Others may enter the store.
        let isShared: Bool
    }

    private let board: LayerBoard
    private let budget: ExtractionBudget
    private let layers: [Job]

    private enum Limit {
        /// Layers read side by side. Each takes 4 MiB of buffers and its decompressor's window.
        static let members = 4
    }

    init(board: LayerBoard, budget: ExtractionBudget, layers: [Job]) {
        self.board = board
        self.budget = budget
        self.layers = layers
    }

    /// One thread of the crew.
    final class Member {
        private var worker: Worker?
        fileprivate init(_ worker: consuming Worker) { self.worker = consume worker }
        /// Waits for its end.
        func join() { worker = nil }
    }

    /// Starts the threads; each ends when no layer is left to take.
    ///
    /// - Throws: when not even one could be started; fewer do the same work.
    func start() throws(ArchiveFault) -> [Member] {
        // One layer keeps a processor busy, hardly two: more of them at once take from the largest, which the
        // others then wait for. Who waits for a network does not need the processor.
        let comesFromAfar = layers.contains { $0.layer.keepsPartial }
        let useful = comesFromAfar ? Limit.members : max(2, ProcessorList.allowed().count)
        var members: [Member] = []
        do throws(ArchiveFault) {
            for _ in 0..<min(Limit.members, useful, layers.count) {
                members.append(Member(try Worker { [self] in while let number = board.take() { bringIn(number) } }))
            }
        } catch { if members.isEmpty { throw error } }
        return members
    }

    private func bringIn(_ number: Int) {
        let job = layers[number]
        let importing = LayerImport(
            layer: job.layer, blobPath: job.blobPath, directory: job.directory,
            lower: { [self] () throws(ArchiveFault) in
                try board.waitForLayers(below: number, bringIn)
                return job.lower
            }, budget: budget, isShared: job.isShared,
            progress: { [board] bytes in
                board.note(bytes, of: number)
                return !board.isFailed
            })
        do throws(LayerFault) {
            board.finish(number, .success(try importing.run()))
        } catch { board.finish(number, .failure(error)) }
    }
}
