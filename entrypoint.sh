#!/usr/bin/env bash
# The everyday things with the compose files; `./entrypoint.sh --help`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
    cat <<'EOF'
Usage: ./entrypoint.sh ACTION [--file TOPOLOGY]...

  --build            build the image of the services
  --up               start everything in the background, and wait until the order service answers
  --down [--volumes] stop everything; with --volumes its data are deleted, too
  --logs [SERVICE]   show what is logged, of one service or of all, until Ctrl-C
  --status           show what runs, and whether it is healthy
  --help             show this

  --file TOPOLOGY    which servers; the same has to be given for each action
                       (none)    one Apache Kafka             docker-compose.yml
                       cluster   three, and two workers each  docker-compose-cluster.yml
                       redpanda  Redpanda in Kafka's place    docker-compose-redpanda.yml
                       elk       logs in Kibana, with any     docker-compose-elk.yml

Passwords and API keys that .env lacks are made by --up, and kept there. ENGINE names the container
engine, docker if it is not set.
EOF
}

fail() {
    echo "entrypoint.sh: $*" >&2
    exit 2
}

engine=${ENGINE:-docker}

# `docker compose`, or the program of its own that was there before.
compose() {
    if "$engine" compose version >/dev/null 2>&1; then
        "$engine" compose "${files[@]}" "$@"
    else
        "$engine-compose" "${files[@]}" "$@"
    fi
}

# What a setting is: in the environment, or else the last time that .env says.
value_of() {
    if [[ -n ${!1:-} ]]; then
        echo "${!1}"
    elif [[ -f .env ]]; then
        sed -n "s/^$1=//p" .env | tail -n 1
    fi
}

# What the compose files run, too.
image=$(value_of ORDERSTREAM_IMAGE)
image=${image:-orderstream:local}

keep() {
    if [[ ! -f .env ]]; then
        (umask 077 && cp .env.example .env)
        echo "made .env of .env.example"
    fi
    printf '%s=%s\n' "$1" "$2" >>.env
    echo "made $1; it is in .env"
}

password() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

make_secrets() {
    local name made
    for name in POSTGRES_PASSWORD ELASTIC_PASSWORD KIBANA_PASSWORD; do
        [[ -n $(value_of "$name") ]] || keep "$name" "$(password)"
    done
    if [[ -z $(value_of ORDERSTREAM_API_KEYS) ]]; then
        made=$("$engine" run --rm "$image" keys new desk --role operator)
        keep ORDERSTREAM_API_KEYS "$(sed -n 's/^entry  *//p' <<<"$made")"
        keep ORDERSTREAM_API_KEY "$(sed -n 's/^key  *//p' <<<"$made")"
    elif [[ -z $(value_of ORDERSTREAM_API_KEY) ]]; then
        fail "ORDERSTREAM_API_KEYS is set: set ORDERSTREAM_API_KEY, too, to the key of an operator in it"
    fi
}

# Of a release its tag, else the commit.
version() {
    local found
    if found=$(git describe --tags --exact-match --match 'v*' 2>/dev/null); then
        echo "${found#v}"
    elif found=$(git rev-parse --short HEAD 2>/dev/null); then
        echo "0.0.0+g$found"
    else
        echo 0.0.0
    fi
}

build() {
    "$engine" build --build-arg "VERSION=$(version)" --tag "$image" .
}

port_of() {
    local port
    port=$(value_of "$1")
    echo "${port:-$2}"
}

up() {
    "$engine" image inspect "$image" >/dev/null 2>&1 || build
    make_secrets
    compose up --detach
    local order
    order=http://127.0.0.1:$(port_of ORDERSTREAM_PORT_ORDER 8080)
    echo "waiting for $order/readyz"
    for _ in $(seq "${WAIT_S:-180}"); do
        if curl --silent --fail --output /dev/null --max-time 2 "$order/readyz"; then
            cat <<EOF

  console        http://127.0.0.1:$(port_of ORDERSTREAM_PORT_CONSOLE 8085)   sign in with ORDERSTREAM_API_KEY of .env
  API, its docs  $order/docs
  Kafka UI       http://127.0.0.1:$(port_of KAFKA_UI_PORT 8081)

Place an order and see what became of it:

  key=\$(sed -n 's/^ORDERSTREAM_API_KEY=//p' .env)
  curl -s $order/api/orders -H "X-API-Key: \$key" -H 'Prefer: wait=5' -d '{"userId":42,"items":[{"sku":"ABC-001","qty":2}]}'
EOF
            return
        fi
        sleep 1
    done
    echo "entrypoint.sh: the order service is not ready; ./entrypoint.sh --logs order says why" >&2
    exit 1
}

action='' service='' base=docker-compose.yml elk='' volumes=()
while (($#)); do
    case $1 in
        --build | --up | --down | --status | --logs)
            [[ -z $action ]] || fail "one thing at a time: $action or $1"
            action=$1
            if [[ $1 == --logs && -n ${2:-} && $2 != --* ]]; then
                service=$2
                shift
            fi
            ;;
        --volumes) volumes=(--volumes) ;;
        --file)
            case ${2:-} in
                cluster | redpanda)
                    [[ $base == docker-compose.yml ]] || fail "one of cluster and redpanda"
                    base=docker-compose-$2.yml
                    ;;
                elk) elk=docker-compose-elk.yml ;;
                *) fail "--file ${2:-}: cluster, redpanda or elk" ;;
            esac
            shift
            ;;
        -h | --help)
            usage
            exit
            ;;
        *) fail "$1: --help says what there is" ;;
    esac
    shift
done
files=(--file "$base" ${elk:+--file "$elk"})

case $action in
    --build) build ;;
    --up) up ;;
    --down) compose down ${volumes[@]+"${volumes[@]}"} ;;
    --logs) compose logs --follow --tail 100 ${service:+"$service"} ;;
    --status) compose ps ;;
    *)
        usage >&2
        exit 2
        ;;
esac
