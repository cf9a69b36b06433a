#!/usr/bin/env bash
# Three Restate servers on this machine that are one cluster: every record is on two of them before it counts.
# Ctrl-C stops them; what they keep lies in .restate/ and is there again at the next start.
#
#   npm install --prefix .restate @restatedev/restate-server@1.7.12
#   examples/cluster/three-nodes.sh
set -euo pipefail

home="${RESTATE_HOME:-.restate}"
server="${RESTATE_SERVER:-$home/node_modules/@restatedev/restate-server-linux-x64/bin/restate-server}"
[ -x "$server" ] || { echo "there is no $server: npm install --prefix $home @restatedev/restate-server@1.7.12" >&2; exit 1; }

trap 'kill $(jobs -p) 2> /dev/null; wait' EXIT
for node in 1 2 3; do
    # Ingress at 8080, 8081, 8082; administration at 9070, 9071, 9072; among themselves at 5122, 5123, 5124.
    at=$((node - 1))
    cat > "$home/node$node.toml" <<EOF
cluster-name = "flowrun"
node-name = "node$node"
roles = ["http-ingress", "admin", "worker", "log-server", "metadata-server"]
auto-provision = $([ "$node" = 1 ] && echo true || echo false)
default-num-partitions = 8
default-replication = 2
bind-ip = "127.0.0.1"
bind-port = $((5122 + at))
listen-mode = "tcp"
advertised-host = "127.0.0.1"
disable-telemetry = true
log-filter = "warn"
[metadata-client]
addresses = ["http://127.0.0.1:5122", "http://127.0.0.1:5123", "http://127.0.0.1:5124"]
[ingress]
bind-ip = "127.0.0.1"
bind-port = $((8080 + at))
[admin]
bind-ip = "127.0.0.1"
bind-port = $((9070 + at))
EOF
    "$server" --no-logo --config-file "$home/node$node.toml" --base-dir "$home/data$node" &
done
echo "three nodes: http://127.0.0.1:8080 (and 8081, 8082), administration at http://127.0.0.1:9070; Ctrl-C stops them" >&2
wait
