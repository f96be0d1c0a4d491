# Completion of builder for fish: python -m builder completion fish | source
function __builder_is_module
    set -l words (commandline -opc)
    test (count $words) -ge 3; and test "$words[2]" = -m; and test "$words[3]" = builder
end
function __builder_module_words
    set -l words (commandline -opc)
    $words[1] -m builder completion fish --line (commandline -cp) 2>/dev/null
end
complete -c builder -f -a '(builder completion fish --line (commandline -cp) 2>/dev/null)'
complete -c python -n __builder_is_module -f -a '(__builder_module_words)'
complete -c python3 -n __builder_is_module -f -a '(__builder_module_words)'
