"""What turns a captured program into an artifact, one package for each format of Apple's."""
