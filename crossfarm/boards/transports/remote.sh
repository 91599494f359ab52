# What the farm asks of a board, in POSIX sh: Debian's dash, bash and busybox run it. The farm sends it with every
# request, so that nothing of it has to be installed or kept at the farm's version.
#
#   sh -c "$(cat remote.sh)" crossfarm FOLDER TOKEN VERB [ARGUMENT...]
#
# FOLDER holds: token (the highest fencing token seen), lock, objects/SHA256 (files by content), bodies/SHA256 (which
# object ends with this content), bundles/DIGEST (folders of hard links to objects), incoming/ and work/ (what goes on).
# Exit codes of its own: 91 the lease went to another holder, 92 the folder cannot be used, 93 another operation holds
# it, 94 what arrived is not what was sent, 95 the bundle is not there, 96 no room.
set -u
umask 077
LC_ALL=C
export LC_ALL
folder=$1 token=$2 verb=$3
shift 3

fail() {
  code=$1
  shift
  printf '%s\n' "$*" >&2
  exit "$code"
}

# Read the first line of a file into the variable `line`, which stays empty when there is none.
first_line() {
  line=
  [ -r "$1" ] && read -r line <"$1" 2>/dev/null
  return 0
}

fact() { [ -z "$2" ] || printf '%s %s\n' "$1" "$2"; }

# Refuse whoever comes with a lower token than was seen here; holds the lock until `unlock`.
fence() {
  exec 9>>lock || fail 92 "$folder/lock cannot be written"
  flock -w 10 9 || fail 93 "another operation holds $folder for more than 10 s"
  first_line token
  case $line in '' | *[!0-9]*) line=0 ;; esac
  [ "$token" -ge "$line" ] || fail 91 "this lease has token $token, the board has seen $line"
  if [ "$token" -gt "$line" ]; then
    printf '%s\n' "$token" >token.new && mv -f token.new token || fail 92 "$folder/token cannot be written"
  fi
}

unlock() { exec 9>&-; }

processor=
# A virtual board says in this file what it stands for, because /proc/cpuinfo shows the processor of its host.
if [ -r /etc/crossfarm-board ]; then
  while read -r key value; do
    [ "$key" = processor ] && processor=$value
  done </etc/crossfarm-board
fi

thermal_state() {
  for zone in /sys/class/thermal/thermal_zone*/temp; do
    first_line "$zone"
    fact temperature "$line"
  done
  processors=/sys/devices/system/cpu/cpu0
  first_line $processors/cpufreq/scaling_governor
  fact governor "$line"
  first_line $processors/cpufreq/scaling_cur_freq
  fact frequency "$line"
  first_line $processors/cpufreq/scaling_max_freq
  fact highest_frequency "$line"
  first_line $processors/thermal_throttle/core_throttle_count
  fact throttle_count "$line"
  if command -v vcgencmd >/dev/null 2>&1; then fact throttled "$(vcgencmd get_throttled 2>/dev/null)"; fi
}

# What tells a virtual machine, or qemu, from a board.
signs() {
  first_line /sys/devices/system/cpu/modalias
  fact sign_processor "${line%%:feature*}"
  first_line /sys/class/dmi/id/sys_vendor
  firmware=$line
  first_line /sys/class/dmi/id/product_name
  fact sign_firmware "$firmware${firmware:+ }$line"
  first_line /sys/hypervisor/type
  fact sign_hypervisor "$line"
  if [ -r /proc/device-tree/hypervisor/compatible ]; then
    fact sign_hypervisor "$(tr '\000' ' ' </proc/device-tree/hypervisor/compatible)"
  fi
  first_line /sys/devices/system/clocksource/clocksource0/available_clocksource
  fact sign_clocks "$line"
  if command -v systemd-detect-virt >/dev/null 2>&1; then fact sign_detected "$(systemd-detect-virt --vm 2>/dev/null)"; fi
}

# Each program that is started here costs a slow board tens of milliseconds, so the shell reads what it can itself.
facts() {
  listed=
  if [ -r /etc/crossfarm-board ]; then
    while read -r key value; do
      fact "$key" "$value"
      [ "$key" = features ] && listed=yes
    done </etc/crossfarm-board
  else
    while IFS= read -r line && [ -n "$line" ]; do
      case $line in
        Features* | flags* | isa*) listed=yes && fact cpuinfo "$line" ;;
        'model name'* | 'CPU implementer'*) fact cpuinfo "$line" ;;
      esac
    done </proc/cpuinfo
    if [ -r /proc/device-tree/model ]; then fact model "$(tr -d '\000' </proc/device-tree/model)"; fi
    fact machine "$(uname -m)"
    signs
  fi
  first_line /proc/sys/kernel/osrelease
  fact kernel "$line"
  if [ -z "$listed" ]; then
    set -- $(od -An -v -tx1 /proc/self/auxv 2>/dev/null)
    fact auxv "$*"
  fi
  fact libc "$(getconf GNU_LIBC_VERSION 2>/dev/null)"
  for loader in /lib/ld-linux*.so.* /lib/ld-musl-*.so.* /lib64/ld-linux*.so.* /lib/ld64*.so.*; do
    [ -e "$loader" ] && fact loader "$loader"
  done
  first_line /proc/loadavg
  fact load "${line%% *}"
  first_line /sys/devices/system/cpu/online
  fact processors "$line"
  free_kib
  fact free_kib "$free"
  thermal_state
}

# Set `free`. POSIX has df print a heading of seven words, then device, size, used and free.
free_kib() {
  set -- $(df -Pk .)
  free=${11}
}

# End what earlier holders left running. Programs of bundles carry a mark in their environment.
end_strays() {
  strays=$(grep -lF "CROSSFARM_RUN=$folder:" /proc/[0-9]*/environ 2>/dev/null)
  ended=0
  for signal in TERM KILL; do
    for stray in $strays; do
      stray=${stray#/proc/}
      kill -s $signal "${stray%/environ}" 2>/dev/null && ended=$((ended + 1))
    done
    [ "$ended" -eq 0 ] && break
    [ "$signal" = TERM ] && sleep 0.2
  done
  fact strays "$ended"
}

preflight() {
  for tool in df dd find flock od sha256sum tar timeout; do
    command -v $tool >/dev/null 2>&1 || fail 92 "$tool is not installed there"
  done
  fence
  end_strays
  for left in work/* incoming/*; do
    [ -e "$left" ] || continue
    rm -rf work incoming || fail 92 "$folder/work cannot be cleaned"
    break
  done
  for needed in objects bodies bundles incoming work; do
    [ -d $needed ] || mkdir $needed || fail 92 "$folder cannot be written"
  done
  { printf x >try; } 2>/dev/null || fail 96 "$folder cannot be written: the disk is full or read-only"
  unlock
  facts
}

# offer DIGEST: say whether a bundle is there; else read its rows from standard input and say which to send.
# A row: SHA256 BYTES MODE BODY PATH, where BODY is the SHA256 of all but the first 64 bytes, or `-`.
offer() {
  fence
  if [ -d "bundles/$1" ]; then
    touch "bundles/$1" 2>/dev/null
    printf 'there\n'
    return
  fi
  unlock
  number=0
  while read -r sha bytes mode body path; do
    if [ ! -e "objects/$sha" ]; then
      first_line "bodies/$body"
      if [ -n "$line" ] && [ -e "objects/$line" ]; then printf 'head %s\n' $number; else printf 'whole %s\n' $number; fi
    fi
    number=$((number + 1))
  done
}

# store DIGEST KIB DAYS: read a tar archive from standard input with `rows`, whole/SHA256 and head/SHA256, and make the
# bundle of it. KIB must be free afterwards; bundles that were not used for DAYS go, and older ones until there is room.
store() {
  digest=$1 wanted=$2 days=$3
  fence
  make_room "$wanted" "$days"
  unlock
  arrived=incoming/$token.$$
  mkdir -p "$arrived/whole" "$arrived/bundle" || fail 96 "$folder/incoming cannot be written: the disk is full or read-only"
  trap 'rm -rf "$folder/$arrived"' EXIT
  trap 'exit 1' HUP INT TERM
  tar -xpf - -C "$arrived" || fail 96 "what was sent cannot be unpacked: the disk is full, or the connection broke"
  assemble
  verify_arrived || fail 94 "what arrived does not have the sha256 of what was sent"
  fence
  keep
  [ -d "bundles/$digest" ] || mv "$arrived/bundle" "bundles/$digest" || fail 96 "the bundle cannot be named"
  printf 'stored\n'
}

# Put files together whose end is here already.
assemble() {
  [ -d "$arrived/head" ] || return 0
  while read -r sha bytes mode body path; do
    if [ -e "$arrived/head/$sha" ]; then
      first_line "bodies/$body"
      cp -p "objects/$line" "$arrived/whole/$sha" &&
        dd if="$arrived/head/$sha" of="$arrived/whole/$sha" bs=64 count=1 conv=notrunc 2>/dev/null ||
        fail 96 "$path cannot be copied: the disk is full"
    fi
  done <"$arrived/rows"
}

# Compare the sha256 of each file that arrived with its name, and that of the rows with the bundle's digest.
verify_arrived() {
  set -- "$arrived/rows" "$arrived"/whole/*
  [ -e "$2" ] || set -- "$1"
  # OpenSSL uses the processor's own instructions, which sha256sum mostly does not: it takes a third of the time.
  { openssl dgst -sha256 -r "$@" || sha256sum "$@"; } >"$arrived/sums" 2>/dev/null || return
  verified=0
  while read -r sum file; do
    file=${file##*/}
    [ "$file" = rows ] && file=$digest
    [ "$sum" = "$file" ] || return
    verified=$((verified + 1))
  done <"$arrived/sums"
  [ "$verified" -eq $# ]
}

# Take what was verified among the objects, and lay out the bundle from them.
keep() {
  set -- "$arrived"/whole/*
  [ ! -e "$1" ] || mv -f "$@" objects/ || fail 96 "files cannot be kept"
  while read -r sha bytes mode body path; do
    [ "$body" = - ] || printf '%s\n' "$sha" >"bodies/$body" || fail 96 "$path cannot be kept"
    case $path in */*) [ -d "$arrived/bundle/${path%/*}" ] || mkdir -p "$arrived/bundle/${path%/*}" ;; esac
    # A file system without hard links gets copies.
    ln "objects/$sha" "$arrived/bundle/$path" 2>/dev/null || cp -p "objects/$sha" "$arrived/bundle/$path" ||
      fail 96 "$path cannot be laid out: the disk is full, or objects/$sha is gone"
  done <"$arrived/rows"
}

make_room() {
  for old in $(find bundles -mindepth 1 -maxdepth 1 -mtime "+$2" 2>/dev/null); do rm -rf "$old"; done
  while free_kib && [ "$free" -lt "$1" ]; do
    oldest=
    for old in $(ls -tr bundles); do
      oldest=$old
      break
    done
    [ -n "$oldest" ] || break
    rm -rf "bundles/$oldest"
    find objects -type f -links 1 -exec rm -f {} +
  done
  [ "$free" -ge "$1" ] || fail 96 "$1 KiB are needed in $folder, $free are free, and no old bundle is left to remove"
}

# verify DIGEST: read a bundle's rows from standard input, and drop the bundle with those of its files that are damaged.
verify() {
  fence
  while read -r sha bytes mode body path; do
    printf '%s  bundles/%s/%s\n' "$sha" "$1" "$path"
  done | sha256sum -c 2>/dev/null >verified && printf 'good\n' && return
  while read -r line; do
    case $line in *': OK') continue ;; esac
    file=${line%: *}
    for object in objects/*; do [ "$object" -ef "$file" ] && rm -f "$object"; done
  done <verified
  rm -rf "bundles/$1" verified
  printf 'damaged\n'
}

# run DIGEST SECONDS GOVERNOR KIND [OPTION...]: run a bundle's program; a tar archive of what it left goes to standard
# output. KIND is `profile` where every call is to be timed, else `plain`.
run() {
  digest=$1 seconds=$2 policy=$3 kind=$4
  shift 4
  fence
  [ -d "bundles/$digest" ] || fail 95 "the bundle is not on the board"
  unlock
  place=work/$token.$$
  mkdir -p "$place/outputs" || fail 96 "$folder/work cannot be written: the disk is full or read-only"
  trap 'put_governors_back; rm -rf "$folder/$place"' EXIT
  trap 'exit 1' HUP INT TERM PIPE
  [ "$policy" = keep ] || set_governors "$policy"
  facts >"$place/before"
  set -- "bundles/$digest/program" "bundles/$digest" "$@" --outputs "$place/outputs" --result "$place/result.json"
  [ "$kind" = plain ] || set -- "$@" --profile "$place/profile.json"
  [ -z "$processor" ] || set -- env "QEMU_CPU=$processor" "$@"
  env "CROSSFARM_RUN=$folder:$token" timeout -k 2 "$seconds" "$@" >"$place/log" 2>&1 </dev/null
  code=$?
  thermal_state >"$place/after"
  put_governors_back
  printf '%s\n' "$code" >"$place/code"
  tail -c 4096 "$place/log" >"$place/tail"
  rm -f "$place/log"
  fence
  unlock
  set -- ./code ./tail ./before ./after
  for left in ./outputs ./result.json ./profile.json; do [ ! -e "$place/$left" ] || set -- "$@" "$left"; done
  tar -cf - -C "$place" "$@"
}

governors=
set_governors() {
  for file in /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor; do
    [ -w "$file" ] || continue
    first_line "$file"
    governors="$governors $file=$line"
    printf '%s\n' "$1" >"$file" 2>/dev/null
  done
}

put_governors_back() {
  for old in $governors; do printf '%s\n' "${old##*=}" >"${old%=*}" 2>/dev/null; done
  governors=
}

cd && { [ -d "$folder" ] || mkdir -p "$folder"; } && cd "$folder" && folder=$PWD || fail 92 "$folder cannot be made"
case $verb in
  probe) facts ;;
  preflight | offer | store | verify | run) "$verb" "$@" ;;
  *) fail 2 "unknown request: $verb" ;;
esac
