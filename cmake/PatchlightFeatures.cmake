# Optional parts of the program. Each has a setting PATCHLIGHT_<NAME>:
#   AUTO  built where everything it needs is found
#   ON    built, and an error where something is missing
#   OFF   not built
# and a result PATCHLIGHT_HAVE_<NAME>, with PATCHLIGHT_<NAME>_REASON for the summary.

function(patchlight_feature name description)
    set(PATCHLIGHT_${name} AUTO CACHE STRING "${description}: AUTO, ON or OFF")
    set_property(CACHE PATCHLIGHT_${name} PROPERTY STRINGS AUTO ON OFF)
    string(TOUPPER "${PATCHLIGHT_${name}}" value)
    if(NOT value STREQUAL "AUTO")
        if(PATCHLIGHT_${name})
            set(value ON)
        else()
            set(value OFF)
        endif()
    endif()
    set(PATCHLIGHT_${name} ${value} PARENT_SCOPE)
endfunction()

# patchlight_feature_result(NAME "what is missing, or empty" "what was found")
macro(patchlight_feature_result name missing found)
    if(PATCHLIGHT_${name} STREQUAL "OFF")
        set(PATCHLIGHT_HAVE_${name} OFF)
        set(PATCHLIGHT_${name}_REASON "switched off by PATCHLIGHT_${name}=OFF")
    elseif(NOT "${missing}" STREQUAL "")
        if(PATCHLIGHT_${name} STREQUAL "ON")
            message(FATAL_ERROR "PATCHLIGHT_${name}=ON, but ${missing}")
        endif()
        set(PATCHLIGHT_HAVE_${name} OFF)
        set(PATCHLIGHT_${name}_REASON "${missing}")
    else()
        set(PATCHLIGHT_HAVE_${name} ON)
        set(PATCHLIGHT_${name}_REASON "${found}")
    endif()
endmacro()

patchlight_feature(WINDOW "The desktop program patchlight-gui (Qt 6 Widgets, VTK 9)")
patchlight_feature(CUDA "The CUDA backend")
patchlight_feature(MPI "Runs shared between MPI ranks")
patchlight_feature(TESTS "The tests (Qt 6 Test)")

option(PATCHLIGHT_PRECOMPILE "Precompile the headers that most files include" OFF)
option(PATCHLIGHT_UNITY "Compile files several at a time" OFF)
option(PATCHLIGHT_FUZZ "Fuzz targets of the file readers (clang, libFuzzer)" OFF)
option(PATCHLIGHT_WERROR "Compiler warnings are errors" OFF)
set(PATCHLIGHT_SANITIZE "" CACHE STRING "Sanitizers: empty, address;undefined or thread")
set_property(CACHE PATCHLIGHT_SANITIZE PROPERTY STRINGS "" "address;undefined" "thread")
