import Glibc

/// What stands before the command in an image that apptainer made: a shell that reads the image's environment
/// scripts (`/.singularity.d/env`) and becomes the command, in apptainer's order and with its precedence.
///
/// apptainer interprets such a script (internal/pkg/util/fs/files/action_scripts.go) with a shell of its own
/// that knows bash's grammar, so the image's bash is taken where there is one.
enum EnvironmentScripts {
    /// Names the variables that win over the scripts, between blanks; the script removes it.
    static let variable: StaticString = "TRIREME_SCRIPTS"
    /// As a command: an interactive shell.
    static let shell: StaticString = "/.singularity.d/actions/shell"

    /// How many words stand before the command.
    static let wordCount = 4

    /// The words before the command, seen from inside the container. `-p`: the caller's BASH_ENV is a file of the host.
    static func words() -> (CString, CString, CString, CString) {
        let hasBash = access(c("/bin/bash"), X_OK) == 0
        return (
            c(hasBash ? "/bin/bash" : "/bin/sh"), c(hasBash ? "-pc" : "-c"), c(script), c("trireme")
        )
    }

    /// The caller's variables are put aside, but those of its place; scripts see nothing of them (a script says
    /// `${X:-default}`), and what they leave unset comes back. Then come `APPTAINERENV_X`, then `-e`.
    private static let script: StaticString = #"""
        _tk=" $TRIREME_SCRIPTS "
        unset TRIREME_SCRIPTS
        _to=$PATH
        _tn=
        _tm='
        '
        _ti=$IFS
        IFS=$_tm
        set -f
        for _tl in $(export -p); do
            case $_tl in
            'export '*) _tl=${_tl#export } ;;
            'declare -x '*) _tl=${_tl#declare -x } ;;
            *) continue ;;
            esac
            _tl=${_tl%%=*}
            case $_tl in
            '' | [0-9]* | *[!A-Za-z0-9_]* | PATH | HOME | PWD | OLDPWD | OPTIND | IFS | UID | EUID | GID | PPID | SHLVL) continue ;;
            SHELLOPTS | BASHOPTS | _ | _t* | APPTAINER_NAME | APPTAINER_CONTAINER | APPTAINER_SHELL) continue ;;
            SINGULARITY_NAME | SINGULARITY_CONTAINER | SINGULARITY_SHELL) continue ;;
            APPTAINER_APPNAME | APPTAINER_APP | SINGULARITY_APPNAME | SINGULARITY_APP) continue ;;
            esac
            if eval "[ -n \"\${$_tl+x}\" ]"; then
                eval "_th_$_tl=\$$_tl"
                unset "$_tl"
                _tn=$_tn$_tm$_tl
            fi
        done
        IFS=$_ti
        set +f
        export PWD
        unset PS1
        _tv=${SINGULARITY_APPNAME:-${SINGULARITY_APP:-}}
        SINGULARITY_APPNAME=${APPTAINER_APPNAME:-${APPTAINER_APP:-$_tv}}
        [ -z "$SINGULARITY_APPNAME" ] || export SINGULARITY_APPNAME APPTAINER_APPNAME="$SINGULARITY_APPNAME"
        _tfix() {
            for _tl in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do
                case ":$PATH:" in *":$_tl:"*) ;; *) PATH=${PATH:+$PATH:}$_tl ;; esac
            done
            export PATH
        }
        _tinject() {
            IFS=$_tm
            set -f
            for _tp in SINGULARITYENV_ APPTAINERENV_; do
                for _tl in $_tn; do
                    case $_tl in "$_tp"[A-Za-z_]*) ;; *) continue ;; esac
                    eval "_tv=\$_th_$_tl"
                    unset "_th_$_tl"
                    _tl=${_tl#"$_tp"}
                    case $_tl in
                    PREPEND_PATH | APPEND_PATH | PATH) eval "SING_USER_DEFINED_$_tl=\$_tv" ;;
                    HOME) ;;
                    *) export "$_tl=$_tv" ;;
                    esac
                done
            done
            for _tl in $_tn; do
                case $_tk in *" $_tl "*) ;; *) continue ;; esac
                eval "_tv=\$_th_$_tl"
                if [ "$_tl" = LD_LIBRARY_PATH ]; then
                    _tv=$_tv${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
                fi
                export "$_tl=$_tv"
            done
            IFS=$_ti
            set +f
        }
        # A script's `set --` is its own. In bash's functions `declare` would be, too.
        if [ -n "${BASH_VERSION:-}" ]; then eval '_tw=("$@")'; fi
        _tread() { . "$_ts"; }
        if [ -d /.singularity.d/env ]; then
            for _ts in /.singularity.d/env/*.sh; do
                [ -f "$_ts" ] || continue
                if [ -n "${BASH_VERSION:-}" ]; then
                    . "$_ts"
                    eval 'set -- "${_tw[@]}"'
                else
                    _tread "$@"
                fi
                case $_ts in
                */10-docker2singularity.sh | */10-docker.sh) _tfix ;;
                */99-base.sh) _tinject ;;
                esac
            done
            [ -f /.singularity.d/env/99-base.sh ] || _tinject
        else
            [ ! -f /environment ] || . /environment
            _tfix
            _tinject
        fi
        PATH=${SING_USER_DEFINED_PREPEND_PATH:+$SING_USER_DEFINED_PREPEND_PATH:}$PATH
        PATH=$PATH${SING_USER_DEFINED_APPEND_PATH:+:$SING_USER_DEFINED_APPEND_PATH}
        PATH=${SING_USER_DEFINED_PATH:-$PATH}
        case $_tk in *" PATH "*) PATH=$_to ;; esac
        export PATH
        unset SING_USER_DEFINED_PREPEND_PATH SING_USER_DEFINED_APPEND_PATH SING_USER_DEFINED_PATH
        IFS=$_tm
        set -f
        for _tl in $_tn; do
            if eval "[ -z \"\${_th_$_tl+x}\" ]"; then
                continue
            elif eval "[ -z \"\${$_tl+x}\" ]"; then
                eval "export $_tl=\"\$_th_$_tl\""
            elif eval "[ -z \"\$$_tl\" ]" && eval "[ -n \"\$_th_$_tl\" ]"; then
                unset "$_tl"
            fi
        done
        IFS=$_ti
        set +f
        export PS1="${PS1:-Apptainer> }"
        [ -n "${PROMPT_COMMAND:-}" ] || export PROMPT_COMMAND="PS1=\"$PS1\"; unset PROMPT_COMMAND"
        export APPTAINER_ENVIRONMENT="${APPTAINER_ENVIRONMENT:-/.singularity.d/env/91-environment.sh}"
        export SINGULARITY_ENVIRONMENT="${SINGULARITY_ENVIRONMENT:-/.singularity.d/env/91-environment.sh}"
        case ${1-} in
        /.singularity.d/actions/run) _ta=run ;;
        /.singularity.d/actions/shell) _ta=shell ;;
        *)
            export APPTAINER_COMMAND=exec SINGULARITY_COMMAND=exec
            exec "$@"
            ;;
        esac
        export APPTAINER_COMMAND="$_ta" SINGULARITY_COMMAND="$_ta"
        shift
        if [ "$_ta" = shell ]; then
            _tl=${APPTAINER_SHELL:-${SINGULARITY_SHELL:-}}
            if [ -n "$_tl" ] && [ -x "$_tl" ]; then exec "$_tl" "$@"; fi
            if [ -x /bin/bash ]; then SHELL=/bin/bash; else SHELL=/bin/sh; fi
            export SHELL
            if [ -x /bin/bash ]; then exec /bin/bash --norc "$@"; fi
        elif [ -n "$SINGULARITY_APPNAME" ]; then
            _tl=/scif/apps/$SINGULARITY_APPNAME/scif/runscript
            if [ -x "$_tl" ]; then exec "$_tl" "$@"; fi
            echo "trireme: $SINGULARITY_APPNAME: the image has no app of that name with a runscript [no-command]" >&2
            exit 1
        elif [ -x /.singularity.d/runscript ]; then
            exec /.singularity.d/runscript "$@"
        elif [ -x /singularity ]; then
            exec /singularity "$@"
        fi
        exec /bin/sh "$@"
        """#
}

/// `command` as a process of an image starts it whose environment has `TRIREME_SCRIPTS` (`ContainerEnvironment`):
/// behind the image's environment scripts. Call it inside the container.
///
/// - Parameter environment: gets the names of `overrides`, which win over the scripts as `-e` does.
package func behindEnvironmentScripts(
    _ command: [[UInt8]], environment: inout [[UInt8]], overrides: [[UInt8]]
) -> [[UInt8]] {
    let mark = Array("\(EnvironmentScripts.variable)=".utf8)
    guard let place = environment.firstIndex(where: { $0.starts(with: mark) }) else { return command }
    for entry in overrides { environment[place] += [0x20] + entry.prefix { $0 != 0x3D } }
    let words = EnvironmentScripts.words()
    let before = [words.0, words.1, words.2, words.3].map {
        Array(UnsafeRawBufferPointer(start: $0, count: strlen($0)))
    }
    return before + command
}
