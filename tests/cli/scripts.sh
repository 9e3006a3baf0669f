#!/usr/bin/env bash
# scripts.sh ROOT FOLDER: the scripts in a repository whose compilers, programs and packages are stand-ins: what
# they refuse before they build, which bundles are packed and run, what setup installs.
# shellcheck disable=SC2016  # the stand-ins' text is not ours to expand
set -euo pipefail
folder=$2
command -v xz >/dev/null || { echo 'skipped: bundles are packed by xz: install xz-utils' && exit 77; }
rm -rf -- "$folder"
mkdir -p "$folder/tree/bench" "$folder/tools"
cp -r -- "$1/scripts" "$folder/tree"
tree=$folder/tree
log=$folder/log

fail() {
  printf 'scripts: %s; it said:\n%s\n' "$1" "$(<"$log")" >&2
  exit 1
}
program() { # FILE BODY
  printf '#!/bin/bash\n%s\n' "$2" >"$folder/$1"
  chmod +x "$folder/$1"
}
does() { PATH=$folder/tools:$PATH "$tree/scripts/$1" "${@:2}" >"$log" 2>&1 || fail "$* must succeed"; }
refuses() { # REGEX SCRIPT OPTION…
  if PATH=$folder/tools:$PATH "$tree/scripts/$2" "${@:3}" >"$log" 2>&1; then fail "${*:2} must fail"; fi
  says "$1"
}
says() { grep -qE -- "$1" "$log" || fail "there must be a line like '$1'"; }
says_not() { ! grep -qE -- "$1" "$log" || fail "there must be no line like '$1'"; }
commit() { git -C "$tree" add -A && git -C "$tree" -c user.name=t -c user.email=t@t commit -qm "$1"; }

# Builds every program but $without.
program tools/cmake '[[ $1 == --build ]] || exit 0
for program in cli/moat bench/bench-kernels-cuda tests/cuda/moat_cuda_tests tests/cuda/moat_cuda_engine_tests; do
  mkdir -p "$2/${program%/*}"
  rm -f "$2/$program"
  [[ $program == "${without-}" ]] || cp "$(command -v grep)" "$2/$program"
done'
program tools/nvcc 'exit 1'
program tools/nvidia-smi 'exit 9'
# The run says what its parts need, and does none of them.
sed '1a [[ " $* " == *" --programs "* ]] || { echo "run with $*" && exit; }' "$1/bench/acceptance" >"$tree/bench/acceptance"
chmod +x "$tree/bench/acceptance"
echo /build/ >"$tree/.gitignore"
git -C "$tree" init -q
commit one

does gpu-acceptance --seconds 20
says "^run with --out $tree/build/acceptance/no-gpu.json --seconds 20$"
says "^bundle: revision $(git -C "$tree" rev-parse --short=12 HEAD)$"
says_not '^gpu-acceptance:'
refuses "^gpu-acceptance: --seconds needs a whole number from 1 on, not '1m'$" gpu-acceptance --seconds 1m

bundle=$folder/a.tar.xz
without=bench/bench-kernels-cuda refuses '^==> pack the bundle: failed' gpu-acceptance --bundle "$bundle"
[[ ! -e $bundle ]] || fail 'a bundle without all programs must not be left'
does gpu-acceptance --bundle "$bundle"
says_not 'run with|64 MiB'
tar -C "$folder" -xJf "$bundle"
rm "$folder/moat-acceptance/moat_cuda_tests"
tar -C "$folder" -cJf "$folder/part.tar.xz" moat-acceptance
refuses "a bundle must hold every program; '$folder/part.tar.xz' has no moat_cuda_tests" gpu-acceptance "$folder/part.tar.xz"

# For some parts.
refuses "^run: there is no part 'kernel'; --parts takes .*kernels" gpu-acceptance --parts demo,kernel
says_not '==>'
without=bench/bench-kernels-cuda does gpu-acceptance --parts demo,engine_tests --bundle "$folder/some.tar.xz"
does gpu-acceptance "$folder/some.tar.xz"
says "^run with --out $tree/build/acceptance/no-gpu.json$"
packed=$(tar -tJf "$folder/some.tar.xz" | xargs -n 1 basename)
for file in moat moat_cuda_engine_tests parts; do grep -qx "$file" <<<"$packed" || fail "a bundle for some parts must have $file"; done
! grep -qx moat_cuda_tests <<<"$packed" || fail 'a bundle for some parts must have their programs alone'
does gpu-acceptance --parts demo "$folder/some.tar.xz"
says '^run with .* --parts demo$'

truncate -s 64M "$tree/large"
commit two
does gpu-acceptance "$bundle"
says "^gpu-acceptance: this repository is at $(git -C "$tree" rev-parse --short=12 HEAD): if that is to be tested, build"
says '^run with'
does gpu-acceptance --bundle "$bundle"
says '^gpu-acceptance: the bundle and the repository \(64 MiB\) are above 64 MiB together'

mkdir "$folder/without_xz"
tr : '\n' <<<"$PATH" | while read -r path; do ln -s "$path"/* "$folder/without_xz" 2>/dev/null || true; done
rm -f "$folder/without_xz/xz"
PATH=$folder/without_xz refuses '^gpu-acceptance: .* xz-utils$' gpu-acceptance "$bundle"

for work in kernels attacks; do
  refuses "^compare-pytorch: '$work' runs on the CPU: leave --device out$" compare-pytorch --device cuda "$work"
  says_not '==>'
done
refuses "^compare-pytorch: 'kernels' writes .*: leave --out out$" compare-pytorch kernels --out "$folder/x.json"
says_not '==>'

# Every package is there for two architectures, but "absent" not at all.
program tools/dpkg-query 'format=${2#-f=}
[[ $3 != absent ]] || exit 1
format=${format//\$\{db:Status-Status\}/installed} format=${format//\$\{Status\}/install ok installed}
printf "$format$format"'
program tools/apt-get 'echo "apt-get $*"'
program tools/sudo 'exec "$@"'
does setup
says '^setup: everything is installed$'
does setup absent
says '^apt-get .* --no-remove .* absent$'
echo 'scripts: all as expected'
