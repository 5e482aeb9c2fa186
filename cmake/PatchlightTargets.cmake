# Settings that every target of ours has, and the functions that make targets.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

find_program(PATCHLIGHT_CCACHE ccache)
mark_as_advanced(PATCHLIGHT_CCACHE)
if(PATCHLIGHT_CCACHE)
    foreach(language C CXX CUDA)
        if(NOT DEFINED CMAKE_${language}_COMPILER_LAUNCHER)
            set(CMAKE_${language}_COMPILER_LAUNCHER ${PATCHLIGHT_CCACHE})
        endif()
    endforeach()
endif()

# ccache keeps what was built with precompiled headers only if it is told not to mind their time and macros.
if(PATCHLIGHT_CCACHE AND PATCHLIGHT_PRECOMPILE AND CMAKE_CXX_COMPILER_LAUNCHER STREQUAL PATCHLIGHT_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${PATCHLIGHT_CCACHE})
endif()

# The default linker takes a second or two for each of some fifty test programs, mold a third of that.
include(CheckLinkerFlag)
set(PATCHLIGHT_LINKER AUTO CACHE STRING "Linker: AUTO (mold or lld where the compiler finds one), or its name as in -fuse-ld=")
if(PATCHLIGHT_LINKER STREQUAL "AUTO")
    set(PATCHLIGHT_LINKER_USED "the compiler's")
    foreach(linker mold lld)
        check_linker_flag(CXX -fuse-ld=${linker} PATCHLIGHT_LINKS_WITH_${linker})
        if(PATCHLIGHT_LINKS_WITH_${linker})
            set(PATCHLIGHT_LINKER_USED ${linker})
            break()
        endif()
    endforeach()
    unset(linker)
else()
    set(PATCHLIGHT_LINKER_USED ${PATCHLIGHT_LINKER})
endif()
if(NOT PATCHLIGHT_LINKER_USED STREQUAL "the compiler's")
    add_link_options($<$<LINK_LANGUAGE:C,CXX>:-fuse-ld=${PATCHLIGHT_LINKER_USED}>)
endif()

# patchlight_quick_to_compile(): for the targets of this folder from here on, whose own code takes no time when it runs.
function(patchlight_quick_to_compile)
    if(PATCHLIGHT_SANITIZE)
        add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-O0>)
    else()
        add_compile_options($<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CONFIG:Release>>:-O1>)
    endif()
endfunction()

# patchlight_optimise_sanitized(<file> ...): the presets with sanitizers build at -Og, which compiles twice as fast as -O1; these files are where the
# tests then spend their time, and are worth -O1.
function(patchlight_optimise_sanitized)
    if(PATCHLIGHT_SANITIZE)
        set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS -O1)
    endif()
endfunction()

# patchlight_fewer_checks(): for the targets of this folder from here on, which neither parse files nor load vectors. Whether each pointer is aligned
# (and not null, which AddressSanitizer sees too) takes UndefinedBehaviorSanitizer a quarter of their compilation.
function(patchlight_fewer_checks)
    if("undefined" IN_LIST PATCHLIGHT_SANITIZE)
        add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize=alignment,null,nonnull-attribute,returns-nonnull-attribute>)
    endif()
endfunction()

# patchlight_reference(<file> ...): what tests compare results with, itself not under test: optimised and without sanitizers, which make
# dense algebra ten times slower and its compilation three times.
function(patchlight_reference)
    if(PATCHLIGHT_SANITIZE)
        set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS "-O1;-fno-sanitize=all")
        # Whose memory is whose must be the same everywhere: Eigen aligns it itself where it sees AddressSanitizer.
        if("address" IN_LIST PATCHLIGHT_SANITIZE)
            set_source_files_properties(${ARGN} PROPERTIES COMPILE_DEFINITIONS EIGEN_MALLOC_ALREADY_ALIGNED=0)
        endif()
    endif()
endfunction()

# patchlight_precompile(target <header> ...): headers of others that most files of the target include, compiled once.
# A file still includes what it uses: the presets debug and fuzz build without.
function(patchlight_precompile target)
    if(PATCHLIGHT_PRECOMPILE)
        target_precompile_headers(${target} PRIVATE ${ARGN})
    endif()
endfunction()

# patchlight_unity(target): its files are compiled several at a time, where heavy headers' inline functions cost more than the files themselves.
# The preset debug builds file by file.
function(patchlight_unity target)
    if(PATCHLIGHT_UNITY)
        set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
        if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
            # A class of one file may have members of types that only this file knows.
            target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wno-subobject-linkage>)
        else()
            # Clang sees a constant of another file shadowed where GCC does not.
            target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wno-shadow>)
        endif()
    endif()
endfunction()

add_library(patchlight_settings INTERFACE)
# Headers are included from the root: #include "core/psf/Psf.h". Generated ones lie in the build folder.
target_include_directories(patchlight_settings INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/generated)
target_compile_features(patchlight_settings INTERFACE cxx_std_20)

set(host $<COMPILE_LANGUAGE:C,CXX>)
target_compile_options(patchlight_settings INTERFACE
    "$<${host}:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wconversion;-Wno-sign-conversion>"
    "$<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor;-Woverloaded-virtual;-Wextra-semi>"
    # No -march: the instruction set is chosen at run time. No -ffast-math: NaN and infinity have a meaning in the input.
    "$<${host}:-fno-math-errno>"
    "$<$<AND:${host},$<CONFIG:Release>>:-g1>")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Optimised GCC 12 reports these inside the standard library and Eigen, without a fault there or here.
    target_compile_options(patchlight_settings INTERFACE
        "$<$<COMPILE_LANGUAGE:CXX>:-Wno-maybe-uninitialized;-Wno-restrict>")
endif()
if(PATCHLIGHT_WERROR)
    target_compile_options(patchlight_settings INTERFACE
        "$<${host}:-Werror>"
        "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Werror all-warnings -Xcompiler=-Wall,-Wextra,-Wno-unknown-pragmas>")
endif()

if(PATCHLIGHT_SANITIZE)
    string(REPLACE ";" "," sanitizers "${PATCHLIGHT_SANITIZE}")
    add_compile_options("$<${host}:-fsanitize=${sanitizers};-fno-omit-frame-pointer>")
    add_link_options(-fsanitize=${sanitizers})
    if("undefined" IN_LIST PATCHLIGHT_SANITIZE)
        add_compile_options("$<${host}:-fno-sanitize-recover=undefined>")
    endif()
    # GCC warns that ThreadSanitizer does not see the fences of asio's handlers; its queues are guarded by mutexes, which it does see.
    if("thread" IN_LIST PATCHLIGHT_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
        add_compile_options("$<${host}:-Wno-tsan>")
    endif()
endif()
if(PATCHLIGHT_FUZZ)
    # Coverage of every file, for the fuzzer; only the fuzz targets link its main function.
    add_compile_options("$<${host}:-fsanitize=fuzzer-no-link>")
    add_link_options(-fsanitize=fuzzer-no-link)
endif()
unset(host)
