#!/usr/bin/env bash
# Installs what the other targets need, by ordinary package clients. Idempotent; says what it does
# and nothing when all is there.
#
#   scripts/setup.sh PART...
#     system  what the daemon and its tests use: FUSE, SQLite, Python, nft, a C compiler
#     rust    the toolchain of rust-toolchain.toml with rustfmt and clippy
#     python  .venv with tests/requirements.txt
#     uv      python/.venv with the Python packages and their tools, by uv
#     web     nginx and Chromium, for the examples of python/; done without if they fail
#     go      Go, for the test that exchanges LTX files with the Go module; done without if it fails
#     static  the target of static programs, and a C compiler for it; done without if they fail
#     aarch64  the same for that machine, by Zig of PyPI in target/tools/zig; done without if it fails
#     packages  `static`, and what packages are built and tried with; what cannot be had is done without
#     images  what the disk image is made of, and started with; done without likewise
#     nix     deadnix and nixfmt in target/tools; two minutes when they are built for the first time
#     deny    cargo-deny in target/tools; some minutes when it is built for the first time
set -euo pipefail
cd "$(dirname "$0")/.."

CARGO_DENY=0.20.2
DEADNIX=1.3.1
NIXFMT=0.5.3
ZIG=0.17.1
ZIGBUILD=0.24.1

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# Debian's package for each thing that is looked for: a command, or a Python module.
system_missing() {
    local pair
    for pair in fusermount3:fuse3 sqlite3:sqlite3 python3:python3 nft:nftables ip:iproute2 \
        pkg-config:pkg-config cc:build-essential patch:patch; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || echo "${pair#*:}"
    done
    if ! command -v uv >/dev/null && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        echo python3-venv
    fi
}

setup_system() {
    local missing
    mapfile -t missing < <(system_missing)
    if ((${#missing[@]} > 0)); then
        if ! command -v apt-get >/dev/null || [[ $(id -u) != 0 ]]; then
            fail "missing: ${missing[*]} (Debian's names). Install them, or run this as root on Debian."
        fi
        say "apt-get install ${missing[*]}"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            "${missing[@]}" >/dev/null
    fi
    [[ -e /dev/fuse ]] || say "no /dev/fuse: tests that mount will be skipped, and demo and bench fail"
}

setup_rust() {
    command -v cargo >/dev/null ||
        fail "no cargo. Install Rust by rustup, or your system's package of Rust 1.95 or later."
    # rustup reads rust-toolchain.toml and installs what is missing when a tool is first called.
    if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
        command -v rustup >/dev/null || fail "no rustfmt or clippy, and no rustup to install them"
        say "rustup component add rustfmt clippy"
        rustup component add rustfmt clippy
    fi
}

setup_python() {
    local wanted
    wanted=$(sha256sum <tests/requirements.txt)
    [[ -x .venv/bin/python && $(cat .venv/.requirements 2>/dev/null) == "$wanted" ]] && return
    say "making .venv with tests/requirements.txt"
    if command -v uv >/dev/null; then
        uv venv --quiet --allow-existing .venv
        uv pip install --quiet --python .venv/bin/python -r tests/requirements.txt
    else
        python3 -m venv .venv
        .venv/bin/python -m pip install --quiet --disable-pip-version-check \
            -r tests/requirements.txt
    fi
    printf '%s\n' "$wanted" >.venv/.requirements
}

setup_uv() {
    local uv wanted
    wanted=$(cat python/uv.lock python/pyproject.toml python/*/pyproject.toml | sha256sum)
    [[ -x python/.venv/bin/python && $(cat python/.venv/.locked 2>/dev/null) == "$wanted" ]] && return
    uv=$(command -v uv || true)
    if [[ -z $uv ]]; then
        say "uv into target/tools/uv"
        python3 -m venv target/tools/uv
        target/tools/uv/bin/python -m pip install --quiet --disable-pip-version-check uv
        uv=target/tools/uv/bin/uv
    fi
    say "making python/.venv of python/uv.lock"
    "$uv" sync --quiet --locked --project python
    printf '%s\n' "$wanted" >python/.venv/.locked
}

setup_web() {
    local missing=()
    PATH="$PATH:/usr/sbin" command -v nginx >/dev/null || missing+=(nginx-light)
    command -v chromium >/dev/null || missing+=(chromium)
    ((${#missing[@]} == 0)) && return
    if command -v apt-get >/dev/null && [[ $(id -u) == 0 ]]; then
        say "apt-get install ${missing[*]}"
        apt-get update -qq || true
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            "${missing[@]}" >/dev/null && return
    fi
    say "no ${missing[*]}: tests of the examples will be skipped"
}

setup_go() {
    command -v go >/dev/null && return
    if command -v apt-get >/dev/null && [[ $(id -u) == 0 ]]; then
        say "apt-get install golang-go"
        apt-get update -qq || true
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends golang-go \
            >/dev/null && return
    fi
    say "no Go: the test that exchanges LTX files with the Go module will be skipped"
}

# Debian's package for each command that packages are tried with.
trying_missing() {
    local pair
    for pair in systemd-nspawn:systemd-container mmdebstrap:mmdebstrap crun:crun \
        nix-instantiate:nix-bin dpkg-deb:dpkg readelf:binutils qemu-aarch64-static:qemu-user-static; do
        command -v "${pair%%:*}" >/dev/null || echo "${pair#*:}"
    done
}

# And for each that a disk image is made and started with.
image_missing() {
    local pair
    for pair in mmdebstrap:mmdebstrap mkfs.ext4:e2fsprogs mkfs.vfat:dosfstools sfdisk:fdisk mcopy:mtools \
        grub-mkimage:grub-common qemu-img:qemu-utils qemu-system-x86_64:qemu-system-x86 \
        ssh-keygen:openssh-client; do
        PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || echo "${pair#*:}"
    done
    [[ -e /usr/lib/grub/i386-pc ]] || echo grub-pc-bin
    [[ -e /usr/lib/grub/x86_64-efi ]] || echo grub-efi-amd64-bin
    [[ -e /usr/share/ovmf/OVMF.fd ]] || echo ovmf
}

# Rust's library for static programs of a machine.
static_target() {
    local target=$1-unknown-linux-musl
    command -v rustup >/dev/null || return 0
    rustup target list --installed | grep -qx "$target" && return
    say "rustup target add $target"
    rustup target add "$target" || say "without it, no static program for $1"
}

setup_static() {
    static_target "$(uname -m)"
    # SQLite and ring are C: they need a compiler for that target.
    command -v musl-gcc >/dev/null || optional musl-tools
}

setup_aarch64() {
    static_target aarch64
    [[ $(uname -m) == aarch64 || -x target/tools/zig/bin/cargo-zigbuild ]] && return
    say "Zig and cargo-zigbuild into target/tools/zig (440 MB)"
    if ! python3 -m venv target/tools/zig ||
        ! target/tools/zig/bin/python -m pip install --quiet --disable-pip-version-check \
            "ziglang==$ZIG" "cargo-zigbuild==$ZIGBUILD"; then
        say "no Zig: no wheel for aarch64"
    fi
}

setup_packages() {
    local missing
    setup_static
    mapfile -t missing < <(trying_missing)
    optional "${missing[@]}"
}

setup_images() {
    local missing
    mapfile -t missing < <(image_missing)
    optional "${missing[@]}"
}

# Debian's packages that are done without where they cannot be had.
optional() {
    (($# > 0)) || return 0
    if command -v apt-get >/dev/null && [[ $(id -u) == 0 ]]; then
        say "apt-get install $*"
        apt-get update -qq || true
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            "$@" >/dev/null && return
    fi
    say "missing: $* (Debian's names): what needs them will be skipped"
}

# A program of crates.io, in target/tools/bin.
crate() {
    local program=$1 crate=$2 version=$3
    grep -qs "^\"$crate $version " target/tools/.crates.toml && return
    say "building $program $version into target/tools"
    cargo install --quiet --locked --root target/tools --version "$version" "$crate"
}

setup_nix() {
    crate deadnix deadnix "$DEADNIX"
    crate nixfmt nixfmt_rs "$NIXFMT"
}

setup_deny() {
    crate cargo-deny cargo-deny "$CARGO_DENY"
}

(($# > 0)) || set -- system rust python uv web go deny nix
for part in "$@"; do
    case $part in
    system | rust | python | uv | web | go | static | aarch64 | packages | images | deny | nix) "setup_$part" ;;
    *) fail "there is no part '$part'; see the head of this file" ;;
    esac
done
