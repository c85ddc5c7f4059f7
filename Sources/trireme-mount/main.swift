import Glibc
import ImageMount

exit(ImageServerProgram.main(Array(CommandLine.arguments.dropFirst())))
