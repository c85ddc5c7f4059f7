import Commands
import Glibc

// Synchronous on purpose: a static binary pays for suspending `main`
// (Documentation/Design/launch-path.md); a verb that needs tasks starts them itself.
exit(TriremeCommand.execute(Array(CommandLine.arguments.dropFirst())))
