# `cmake --install` and `cpack`: a .deb of the headless program, and one of the window where that is built.

install(FILES README.md TYPE DOC COMPONENT headless)
install(FILES LICENSE TYPE DOC RENAME copyright COMPONENT headless)
install(DIRECTORY docs/ TYPE DOC COMPONENT headless FILES_MATCHING PATTERN "*.md" PATTERN "*.png")

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME patchlight)
set(CPACK_PACKAGE_VENDOR "the Patchlight developers")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)

set(CPACK_COMPONENTS_ALL headless)
if(PATCHLIGHT_HAVE_WINDOW)
    list(APPEND CPACK_COMPONENTS_ALL window)
endif()
set(CPACK_COMPONENTS_GROUPING ONE_PER_GROUP)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_ENABLE_COMPONENT_DEPENDS ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_MAINTAINER "the Patchlight developers <patchlight@localhost>")
set(CPACK_DEBIAN_HEADLESS_PACKAGE_NAME patchlight)
set(CPACK_DEBIAN_WINDOW_PACKAGE_NAME patchlight-window)

set(CPACK_COMPONENT_HEADLESS_DESCRIPTION
"The headless program patchlight extracts one-dimensional spectra and their
resolution, in place of desi_extract_spectra; it also simulates frames and
compares extracted ones.")
set(CPACK_COMPONENT_WINDOW_DESCRIPTION
"The desktop program patchlight-gui shows a CCD image, its traces and patches,
and what the extraction makes of them.")
set(CPACK_COMPONENT_WINDOW_DEPENDS headless)

include(CPack)
