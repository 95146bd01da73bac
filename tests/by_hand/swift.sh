#!/usr/bin/env bash
# The main job on a Swift that no test starts: a cloud's, Ceph's gateway, one behind https. It writes below a prefix of its own in
# a container that must exist, and removes what it wrote, but for `store.json`. Needs `longshore` (cargo build) and qemu-img.
#
#   SWIFT_AUTH=https://keystone:5000/v3 SWIFT_USER=me SWIFT_KEY=secret SWIFT_PROJECT=backups tests/by_hand/swift.sh CONTAINER
#   SWIFT_AUTH=http://gateway:8080/auth/v1.0 SWIFT_USER=test:swift SWIFT_KEY=secret tests/by_hand/swift.sh CONTAINER
#
# SWIFT_DOMAIN and SWIFT_ENDPOINT, if they are needed, are `domain` and `endpoint` of the site file.
set -euo pipefail
container=${1:?name a container}
longshore=${LONGSHORE:-$(cd "$(dirname "$0")/../.." && pwd)/target/debug/longshore}
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
mkdir "$folder/volumes"

field() { [ -z "$2" ] || printf '%s = "%s"\n' "$1" "$2"; }
{
    printf '[[zone]]\nname = "z1"\nregion = "r1"\n'
    printf '[[pool]]\nname = "fast"\nzone = "z1"\nhypervisor = "kvm"\nurl = "file://%s/volumes"\ncapacity = "10 GiB"\n' "$folder"
    printf '[[store]]\nname = "main"\nregion = "r1"\ncapacity = "10 GiB"\ngrace_s = 0\nkey = "env:SWIFT_KEY"\n'
    field url "swift://$container/by-hand-$(date +%s)"
    field auth "${SWIFT_AUTH:?}"
    field user "${SWIFT_USER:?}"
    field project "${SWIFT_PROJECT:-}"
    field domain "${SWIFT_DOMAIN:-}"
    field endpoint "${SWIFT_ENDPOINT:-}"
} >"$folder/site.toml"
export SWIFT_KEY=${SWIFT_KEY:?} LONGSHORE_DATABASE="sqlite://$folder/longshore.db" LONGSHORE_BROKER=embedded

say() { printf '\n== %s\n' "$*"; }
backups() { "$longshore" list --kind backup-snapshot --json; }

say "try it out, and found a store"
"$longshore" site apply --yes "$folder/site.toml"
say "back up 100 MiB"
head -c 104857600 /dev/urandom >"$folder/volumes/disk.raw"
"$longshore" submit backup-snapshot --zone z1 --pool fast --volume disk.raw --store main --wait
backup=$(backups | sed -n '1s/^{"id":"\([^"]*\)".*/\1/p')
say "read every byte back"
"$longshore" submit verify-object --object "$backup" --wait
say "restore and compare"
"$longshore" submit create-volume --zone z1 --from "$backup" --pool fast --volume new.raw --wait
cmp "$folder/volumes/disk.raw" "$folder/volumes/new.raw"
say "destroy, and sweep"
"$longshore" destroy --wait "$backup"
"$longshore" submit sweep-store --store main --wait
say "all is well"
