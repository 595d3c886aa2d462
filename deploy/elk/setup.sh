#!/usr/bin/env bash
# What Kibana needs before the first look: its password, index templates, data view and dashboard.
# May be repeated: it says again what it said.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
elasticsearch=${ELASTICSEARCH:-http://elasticsearch:9200}
kibana=${KIBANA:-http://kibana:5601}

# The password is not for the list of processes.
ask() {
    curl --silent --show-error --fail-with-body --config <(printf 'user = "elastic:%s"\n' "$ELASTIC_PASSWORD") \
        --header 'kbn-xsrf: setup' "$@"
}

wait_for() {
    until ask --output /dev/null --max-time 10 "$1" 2>/dev/null; do
        echo "waiting for $1"
        sleep "${EVERY_S:-3}"
    done
}

json=(--header 'content-type: application/json' --output /dev/null)

wait_for "$elasticsearch/_cluster/health?wait_for_status=yellow&timeout=5s"
printf '{"password":"%s"}' "$KIBANA_PASSWORD" |
    ask "${json[@]}" --data-binary @- "$elasticsearch/_security/user/kibana_system/_password"
for template in "$here"/templates/*.json; do
    [[ -e $template ]] || continue
    ask "${json[@]}" --request PUT --data-binary "@$template" \
        "$elasticsearch/_index_template/$(basename "$template" .json)"
    echo "index template $(basename "$template" .json) is set"
done
wait_for "$kibana/api/status"
answer=$(ask --form "file=@$here/kibana.ndjson" "$kibana/api/saved_objects/_import?overwrite=true")
if [[ $answer != *'"success":true'* ]]; then
    echo "Kibana did not take $here/kibana.ndjson: $answer" >&2
    exit 1
fi
echo "the data view and the dashboard are in Kibana"
