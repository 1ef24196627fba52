# What the run_*.sh commands share: `run_marauder COMMAND "$@"` calls the command line of this checkout and, when the
# work is interrupted, lets it print the script's own line as the one that resumes it. Sourced, not run.

run_marauder() {
    local program
    program="$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/marauder"
    if [ ! -x "$program" ]; then
        program=$(command -v marauder) || {
            echo "error: marauder is not installed; run 'make setup' first" >&2
            exit 2
        }
    fi
    MARAUDER_RESUME_COMMAND=$(printf '%q ' "$0" "${@:2}")
    export MARAUDER_RESUME_COMMAND
    exec "$program" "$@"
}
