// libyaml, which reads the vendors' device specifications (JSON is YAML's subset).
#include <yaml.h>
