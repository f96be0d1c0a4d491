#compdef builder
# Completion of builder for zsh: eval "$(python -m builder completion zsh)"
_builder_words() {
    local line="${(j: :)words[1,CURRENT-1]} $PREFIX" found word
    local -a last more last_said more_said
    for found in "${(@f)$("$@" completion zsh --line "$line" 2>/dev/null)}"; do
        word="${found%%$'\t'*}"
        [[ -z $word ]] && continue
        if [[ $word == *[=./] ]]; then
            more+=("$word") && more_said+=("${found//$'\t'/  -- }")
        else
            last+=("$word") && last_said+=("${found//$'\t'/  -- }")
        fi
    done
    (( $#more )) && compadd -Q -S '' -l -d more_said -a more
    (( $#last )) && compadd -Q -l -d last_said -a last
    (( $#more + $#last ))
}
_builder() { _builder_words "$words[1]" }
_builder_module() {
    if [[ $words[2] == -m && $words[3] == builder ]] && (( CURRENT > 3 )); then
        _builder_words "$words[1]" -m builder
    elif (( $+functions[_python] )) || autoload +X _python 2>/dev/null; then
        _python "$@"
    else
        _default
    fi
}
compdef _builder builder
compdef _builder_module python python3
