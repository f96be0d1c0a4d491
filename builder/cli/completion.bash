# Completion of builder for bash 3.2 and later: eval "$(python -m builder completion bash)"
_builder_words() {
    local line="${COMP_LINE:0:COMP_POINT}" word prefix="" sign found
    word="${line##*[[:space:]]}"
    for sign in = :; do # bash takes these for the ends of words, and replaces only what is behind the last one
        if [[ $COMP_WORDBREAKS == *"$sign"* && ${word#"$prefix"} == *"$sign"* ]]; then
            prefix="${word%"${word##*"$sign"}"}"
        fi
    done
    COMPREPLY=()
    while IFS= read -r found; do
        COMPREPLY+=("${found#"$prefix"}")
    done < <("$@" completion bash --line "$line" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} != *[=./] ]]; then
        COMPREPLY[0]+=" "
    fi
}
_builder_command() { _builder_words "$1"; }
_builder_module() {
    if [[ ${COMP_WORDS[1]} == -m && ${COMP_WORDS[2]} == builder && $COMP_CWORD -gt 2 ]]; then
        _builder_words "$1" -m builder
    elif [[ -n $_builder_before ]] && declare -F "$_builder_before" >/dev/null; then
        "$_builder_before" "$@"
    fi
}
_builder_before="$(complete -p python 2>/dev/null)"
[[ $_builder_before == *"-F "* ]] && _builder_before="${_builder_before##*-F }" && _builder_before="${_builder_before%% *}"
[[ $_builder_before == _builder_module ]] && _builder_before=""
complete -o nospace -F _builder_command builder
complete -o nospace -o bashdefault -o default -F _builder_module python python3
