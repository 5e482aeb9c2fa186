# Run at build time: writes OUTPUT from INPUT with the state of the checkout, and only where that changed.
execute_process(COMMAND git -C ${SOURCE_DIR} describe --tags --always --dirty
    OUTPUT_VARIABLE PATCHLIGHT_GIT_DESCRIBE OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
    set(PATCHLIGHT_GIT_DESCRIBE "")
endif()
configure_file(${INPUT} ${OUTPUT} @ONLY)
