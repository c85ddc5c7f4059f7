/// One line of `trireme doctor`: what was measured, and when it is not well, why and the one thing to do.
package struct Finding: Equatable, Sendable {
    package enum Level: String, CaseIterable, Sendable {
        case ok
        /// Works, but slower or without one feature.
        case warn
        /// Containers, or the thing the line names, cannot work.
        case fail
        /// Not measured, because something it needs is missing or it does not apply.
        case skip
    }

    /// Stable name of the check (Documentation/Reference/doctor.md lists them all).
    package var check: String
    package var level: Level
    /// What was measured.
    package var fact: String
    /// Why the fact matters; nil when the level is ok.
    package var cause: String?
    /// The next step, one; nil when the level is ok or skip.
    package var fix: String?

    static func ok(_ check: String, _ fact: String) -> Finding {
        Finding(check: check, level: .ok, fact: fact, cause: nil, fix: nil)
    }
    static func warn(_ check: String, _ fact: String, cause: String, fix: String) -> Finding {
        Finding(check: check, level: .warn, fact: fact, cause: cause, fix: fix)
    }
    static func fail(_ check: String, _ fact: String, cause: String, fix: String) -> Finding {
        Finding(check: check, level: .fail, fact: fact, cause: cause, fix: fix)
    }
    static func skip(_ check: String, _ fact: String, cause: String) -> Finding {
        Finding(check: check, level: .skip, fact: fact, cause: cause, fix: nil)
    }
}
