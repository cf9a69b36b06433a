#!/usr/bin/env bash
# Measures flowrun beside other durable engines, in one interleaved run.
#   HARNESS=path/to/peers benches/peers.sh [PEER...]
set -euo pipefail
cd "$(dirname "$0")/.."
: "${HARNESS:?names the folder of the harness, which has a run.sh}"
driver=$(cargo build --profile dist --features driver --bin flowrun-order6 --message-format=json |
  python3 -c 'import json, sys
for line in sys.stdin:
    found = json.loads(line)
    if found.get("executable") and found["target"]["name"] == "flowrun-order6":
        print(found["executable"])')
export EXTRA_DRIVERS="{\"flowrun\": [[\"$driver\"], {}]}"
exec "$HARNESS/run.sh" flowrun "$@"
