#!/bin/sh
# Has Prometheus' promtool check the alert rules, run their tests, and read the dashboard's queries.
set -eu
cd "$(dirname "$0")/.."

if ! command -v promtool >/dev/null; then
    echo "alerts and dashboard: not checked, there is no promtool (on Debian in the package prometheus)"
    exit 0
fi
promtool check rules deploy/alerts.yml
promtool test rules deploy/alerts_test.yml

# As rules, since promtool reads queries nowhere else; with the variables that Grafana fills in.
queries=$(mktemp)
trap 'rm -f "$queries"' EXIT
{
    echo 'groups: [{name: dashboard, rules: ['
    sed -n 's/^ *"expr": "\(.*\)",\{0,1\}$/\1/p' deploy/grafana.json |
        sed -e 's/\$__rate_interval/5m/g' -e 's/\$instance/.*/g' -e "s/'/''/g" -e 's/\\"/"/g' \
            -e "s/.*/{expr: '&', record: dashboard}, /" |
        awk '{ sub("record: dashboard", "record: dashboard:" NR); print }'
    echo ']}]'
} >"$queries"
[ "$(grep -c record: "$queries")" -eq "$(grep -c '"expr":' deploy/grafana.json)" ]
promtool check rules "$queries"
