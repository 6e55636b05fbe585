# Helpers of the fetch scripts (plain sh; sourced, not run).

die() {
    echo "$0: $*" >&2
    exit 1
}

# download URL FILE: continues FILE where an earlier try stopped.
download() {
    if command -v curl >/dev/null 2>&1; then
        curl -fL --retry 3 -C - -o "$2" "$1"
    elif command -v wget >/dev/null 2>&1; then
        wget -c -O "$2" "$1"
    else
        die "neither curl nor wget is installed; install one (apt-get install curl)"
    fi
}

matches() {
    [ -f "$1" ] && echo "$2  $1" | sha256sum -c --status
}

# fetch FILE SHA256 URL...: tries the addresses in turn; what arrives is FILE.part until its checksum is right.
fetch() {
    file=$1 sum=$2 arrived=no
    shift 2
    for url in "$@"; do
        if matches "$file.part" "$sum" || download "$url" "$file.part"; then
            arrived=yes
            break
        fi
        echo "$0: $url: download failed" >&2
    done
    [ $arrived = yes ] || die "$file: not complete; check the network and run this again, it continues where it stopped"
    if ! matches "$file.part" "$sum"; then
        rm -f "$file.part"
        die "$file: the SHA-256 is not $sum; the damaged file is removed, run this again"
    fi
    mv "$file.part" "$file"
}
