# SPDX-License-Identifier: GPL-2.0
# How test scripts on the host and in a guest report results, and how results are judged: TAP, and last the line "N passed,
# N failed, N skipped". Sourced, never run; the script has set -euo pipefail.
# shellcheck shell=bash
#
# judge replaces prove and the kselftest runner. prove starts each program itself, but one guest runs them all; it treats
# each skip as a success and does not count skips. The kselftest runner counts programs, not tests.

passed=0 failed=0 skipped=0

# result ok|'not ok' WHAT: print and count one result; a WHAT with "# SKIP" in it is a skip
result() {
	case "$1 $2" in
	not*) failed=$((failed + 1)) ;;
	*'# SKIP'*) skipped=$((skipped + 1)) ;;
	*) passed=$((passed + 1)) ;;
	esac
	printf '%s %d - %s\n' "$1" $((passed + failed + skipped)) "$2"
}

# check WHAT COMMAND...: run one test. COMMAND, such as a function, runs in a subshell that stops at the first error; its
# output is shown if it fails. Never call this within a condition: bash ignores set -e there.
check() {
	local what=$1 began=$SECONDS log status
	shift
	log=$(mktemp "${logs:-/tmp}/check.XXXXXX")
	set +e
	(
		set -e
		"$@"
	) </dev/null >"$log" 2>&1
	status=$?
	set -e
	[ $SECONDS = "$began" ] || what+=" # $((SECONDS - began)) s"
	if [ $status = 0 ]; then
		result ok "$what"
	else
		result 'not ok' "$what"
		tail -n 30 "$log" | sed 's/^/#   /'
		[ $status != 124 ] || printf '#   it timed out\n'
	fi
	rm "$log"
}

# verdict: print the plan and the totals, which end a script of tests, and return the status
verdict() {
	printf '1..%d\n%d passed, %d failed, %d skipped\n' $((passed + failed + skipped)) "$passed" "$failed" "$skipped"
	[ "$failed" = 0 ]
}

# tap COMMAND...: run COMMAND, and append its status to its TAP, for judge
tap() {
	local status=0
	"$@" || status=$?
	printf '# ended with %d\n' "$status"
}

# expected NAME REASON: succeed if the skip is expected; a script with expected skips overrides this function
expected() { false; }

# judge: read the TAP of tap(); print "ok WHAT" and "not ok WHAT" without a plan, and comments unchanged. Failures are also:
# a planned test without a result, an unexpected skip, a missing plan, more results than planned, and a status that no
# result explains.
judge() {
	local line what plan='' status='' seen=0 bad=0 skips=0
	local -r result='^(not )?ok *[0-9]*( -)?( (.*))?$' skip='^(.*[^ ])? *# *(SKIP|skip) *(.*)$'
	fails() {
		printf 'not ok %s\n' "$*"
		bad=$((bad + 1))
	}
	# skip_of NAME REASON
	skip_of() {
		skips=$((skips + 1))
		if expected "$1" "$2"; then
			printf 'ok %s # SKIP %s\n' "${1:-a test}" "$2"
		else
			fails "${1:-a test} was skipped, which is not expected: $2"
		fi
	}
	while IFS= read -r line; do
		if [[ $line =~ $result ]]; then
			seen=$((seen + 1))
			what=${BASH_REMATCH[4]}
			if [ -n "${BASH_REMATCH[1]}" ]; then
				fails "$what"
			elif [[ $what =~ $skip ]]; then
				skip_of "${BASH_REMATCH[1]}" "${BASH_REMATCH[3]}"
			else
				printf 'ok %s\n' "$what"
			fi
		elif [[ $line =~ ^1\.\.([0-9]+)( *# *(SKIP|skip) *(.*))?$ ]]; then
			[ -z "$plan" ] || fails "there is a second plan, $line"
			plan=${BASH_REMATCH[1]}
			[ "$plan" != 0 ] || skip_of '' "${BASH_REMATCH[4]:-nothing was planned}"
		elif [[ $line =~ ^'# ended with '([0-9]+)$ ]]; then
			status=${BASH_REMATCH[1]}
		elif [[ ! $line =~ ^[0-9]+\ passed,\ [0-9]+\ failed,\ [0-9]+\ skipped$ ]]; then
			printf '%s\n' "$line"
		fi
	done
	[ -n "$plan" ] || fails "there is no plan: it ended after $seen results"
	while [ $seen -lt "${plan:-0}" ]; do
		seen=$((seen + 1))
		fails "test $seen of $plan has no result"
	done
	[ $seen -le "${plan:-$seen}" ] || fails "there are $seen results of $plan tests"
	# A kselftest exits with 4 if it skipped all of its tests.
	case $bad:$status in
	*:) fails "it did not end" ;;
	0:0) ;;
	0:4) [ $skips -ge $seen ] || fails "it ended with 4" ;;
	0:*) fails "it ended with $status" ;;
	esac
}

# tally: count the passed, failed and skipped tests in the output of judge
tally() {
	awk '/^ok .*# SKIP/ { s++; next } /^ok / { p++ } /^not ok / { f++ } END { print p + 0, f + 0, s + 0 }'
}

# adopt COMMAND...: make the judged tests of COMMAND tests of this script
adopt() {
	local line
	while IFS= read -r line; do
		case $line in
		'ok '*) result ok "${line#ok }" ;;
		'not ok '*) result 'not ok' "${line#not ok }" ;;
		*) printf '%s\n' "$line" ;;
		esac
	done < <(tap "$@" | judge)
}
