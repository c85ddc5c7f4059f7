/// What users of docker, podman, Apptainer and Singularity type, and the verb that does it here.
enum ForeignVerbs {
    /// nil for a word that is no verb of theirs.
    static func answer(to verb: String) -> (reason: String, remedies: [String])? {
        if let same = renamed[verb] { return ("is another word here", [same]) }
        return missing[verb]
    }

    /// docker's and Apptainer's own words first, then those of ours.
    private static let renamed: [String: String] = [
        "inspect": "trireme image inspect IMAGE, or of a job: trireme job show ID",
        "history": "trireme image history IMAGE",
        "tag": "trireme image tag IMAGE NAME",
        "import": "trireme image import FILE NAME",
        "prune": "trireme image prune",
        "verify": "trireme image verify IMAGE",
        "test":
            "trireme exec IMAGE /.singularity.d/test; of an app: trireme exec --app NAME IMAGE /scif/apps/NAME/scif/test",
        "sif": "trireme image inspect FILE.sif",
        "oci": "trireme run IMAGE: OCI images run as they are",
        "system": "trireme image df, trireme image prune, trireme clean",
        "cache": "trireme image df, trireme image prune",
        "info": "trireme doctor",
        "version": "trireme --version",
        "stop": "trireme job cancel ID",
        "kill": "trireme job cancel ID",
        "delete": "trireme image rm IMAGE",
        "pause": "trireme job suspend ID",
        "unpause": "trireme job resume ID",
        "top": "trireme ps, trireme job stats ID",
        "wait": "trireme job wait ID",
        "attach": "trireme job attach ID",
        "events": "trireme job events ID",
        "update": "trireme job update ID",
        "convert": "trireme image convert IMAGE FILE",
        "remote": "trireme login REGISTRY",
        "config": "trireme doctor",
        "capability": "trireme doctor",
    ]

    private static let missing: [String: (reason: String, remedies: [String])] = [
        "build": (
            "is not there yet: trireme builds no images",
            ["build with docker, podman or apptainer, then: trireme load -i FILE, or trireme run FILE.sif"]
        ),
        "cp": (
            "is not needed: a container shows your files", ["from an image: trireme exec IMAGE cat PATH >FILE"]
        ),
        "rm": (
            "has nothing to do: a container goes with its command",
            ["an image: trireme image rm IMAGE", "trireme clean"]
        ),
        "diff": ("is not kept: what a container writes goes with it", ["--overlay DIR keeps it in DIR"]),
        "commit": (
            "is not there: what a container writes goes with it",
            ["--overlay DIR keeps it in DIR", "trireme image import FILE NAME makes an image of a tar file"]
        ),
        "instance": (
            "is not there: nothing stays resident",
            [
                "trireme run IMAGE CMD &", "an image's %startscript: trireme exec IMAGE /.singularity.d/startscript &",
                "a job's words: trireme job --help",
            ]
        ),
        "create": ("is not needed: a container begins with its command", ["trireme run IMAGE CMD"]),
        "start": ("is not needed: a container begins with its command", ["trireme run IMAGE CMD"]),
        "restart": ("is not needed: a container begins with its command", ["trireme run IMAGE CMD"]),
        "search": ("is not there: registries have pages for it", ["trireme pull NAME"]),
        "sign": ("is not there", ["cosign sign; trireme image verify checks signatures"]),
        "key": ("is not there", ["trireme image verify --help"]),
        "compose": ("is not there", ["trireme run IMAGE CMD & for a service beside the job"]),
        "network": ("is not there: a container has the host's network", ["--network none, --network job"]),
        "volume": ("is not there: directories are shown", ["-v DIR:/there"]),
    ]
}
