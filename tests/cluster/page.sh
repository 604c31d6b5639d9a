# shellcheck shell=bash
# shellcheck disable=SC2154
# Sourced: the files and commands of a page of docs/, for a test that does what the page says.
#
# A file is the indented lines below the paragraph that names it in backquotes; a command is an indented line `HOST# COMMAND`, or
# `both# COMMAND`. Before: $page, the file. The test has the function `page_does HOST COMMAND`, which does it.

block_of() { # block_of FILE
    awk -v file="\`$1\`" '/^    / { if (wanted) { print substr($0, 5); found = 1 } next } /^$/ { if (wanted && found) print ""; next }
        found { exit } { wanted = index($0, file) > 0 }' "$page" | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}'
}
# page_begins HOST...: these are its hosts; its commands are read from the first one on, by descriptor 4.
page_begins() {
    page_hosts=$*
    exec 4<<<"$(grep -oE "^    (both|${page_hosts// /|})# .*" "$page" | sed 's/^    //')"
}
page_says() { # page_says COMMAND...: what it has the administrator do, up to and with this command
    local line name words host
    while IFS= read -r -u 4 line; do
        name=${line%%#*} words=${line#*# }
        for host in $page_hosts; do
            case $name in both | "$host") page_does "$host" "$words" ;; esac
        done
        [ "$words" != "$*" ] || return 0
    done
    fail "the page does not say '$*'"
}
