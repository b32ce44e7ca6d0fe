#!/usr/bin/env bash
# The README's commands on a machine that has nothing but Python and a compiler: a Debian made by debootstrap.
#
#   tests/install/bare_root.sh FOLDER [--arch amd64|arm64] [--run demo|test|native]...
#
# FOLDER is made, or used again where it is there; deleting it is left to you. --run demo and test are the two commands of
# the README, each in a fresh virtual environment; native is the tests of what is compiled or decodes. Needs root and
# Debian's debootstrap; for another architecture qemu-user-static and binfmt-support, too. pip is given what this machine's
# has: certificates, configuration, and the folders of packages that the configuration names.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/../.." && pwd)
arch=$(dpkg --print-architecture)
runs=()
root=
while [ $# -gt 0 ]; do
  case $1 in
    --arch) arch=$2; shift 2 ;;
    --run) runs+=("$2"); shift 2 ;;
    -*) echo "usage: $0 FOLDER [--arch ARCH] [--run demo|test|native]..." >&2; exit 2 ;;
    *) root=$(realpath -m "$1"); shift ;;
  esac
done
test -n "$root"

say() { echo "bare_root: $(date -u +%H:%M:%S) $*"; }

if [ ! -e "$root/made" ]; then
  say "debootstrap $arch"
  if [ "$arch" != "$(dpkg --print-architecture)" ]; then
    mountpoint -q /proc/sys/fs/binfmt_misc || mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
    test -e /proc/sys/fs/binfmt_misc/qemu-aarch64 || update-binfmts --enable qemu-aarch64
  fi
  debootstrap --variant=minbase --arch="$arch" \
    --include=python3,python3-venv,python3-dev,g++,ca-certificates bookworm "$root" >"$root.debootstrap.log" 2>&1
  touch "$root/made"
fi

mounted=()
unmount() { for folder in "${mounted[@]}"; do umount "$folder" || umount -l "$folder"; done; }
trap unmount EXIT
bind() {
  mkdir -p "$root$1"
  if ! mountpoint -q "$root$1"; then mount --bind "$1" "$root$1"; mounted=("$root$1" "${mounted[@]}"); fi
}
bind /proc
bind /dev
bind /dev/pts  # terminals, which are tested too

cp /etc/resolv.conf /etc/hosts "$root/etc/"
cp --dereference /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
for file in /etc/pip.conf /etc/xdg/pip "$HOME/.config/pip" "$HOME/.pip"; do
  if [ -e "$file" ]; then mkdir -p "$root$(dirname "$file")"; cp -r "$file" "$root$(dirname "$file")/"; fi
done
# An index that lies in a folder names files beside itself.
local_folders() {
  pip config list 2>/dev/null | grep -E 'find-links|index-url' | grep -oE "(file://)?/[^ ']+" |
    sed 's|^file://||; s|/simple/*$||' | sort -u
}
for folder in $(local_folders); do
  if [ -d "$folder" ]; then bind "$folder"; fi
done
settings=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 OMP_NUM_THREADS=1)
while IFS= read -r line; do settings+=("$line"); done < <(env | grep -E '^(PIP_|SSL_CERT_|https?_proxy|no_proxy|OPENBLAS_)' || true)
mkdir -p "$root/root"
for variable in METST_EDGE_TEST_DATA METST_EDGE_GOLDEN METST_EDGE_FIELD; do
  if [ -n "${!variable:-}" ]; then
    mkdir -p "$root/$variable" && cp -ru "${!variable}/." "$root/$variable/"
    settings+=("$variable=/$variable")
  fi
done

rm -rf "$root/checkout" && mkdir "$root/checkout"
(cd "$checkout" && git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --create) |
  tar -x -C "$root/checkout"

# What is run in there, in a fresh virtual environment.
inside() {
  say "$1: $2"
  began=$(date +%s)
  rm -rf "$root/venv-$1"
  chroot "$root" /usr/bin/env -i "${settings[@]}" bash -euc "
    cd /checkout
    python3 -m venv /venv-$1
    . /venv-$1/bin/activate
    $2"
  say "$1: done in $(($(date +%s) - began)) s, $(du -sm "$root/venv-$1" | cut -f1) MiB installed"
}

readme_command() {
  awk -v mark="<!-- $1 -->" '
    index($0, mark) { found = 1 }
    found && /^```/ { if (inside) exit; inside = 1; next }
    inside' "$checkout/README.md"
}

for run in "${runs[@]}"; do
  case $run in
    # The source folder would hide the package that is installed: what is tested is run from elsewhere.
    native) inside native "pip install . pytest hypothesis scikit-image
      rm -rf /suite && mkdir /suite && cp -r pyproject.toml tests benchmarks csrc /suite && cd /suite
      python -m pytest -q tests/native tests/flow tests/decode tests/capture" ;;
    demo) inside demo "$(readme_command demo)
      metst-edge doctor" ;;
    *) inside "$run" "$(readme_command "$run")" ;;
  esac
done
