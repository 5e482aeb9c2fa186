#include "core/base/Version.h"
#include "widgets/window/MainWindow.h"

#include <CLI/CLI.hpp>

#include <QApplication>

int main(int argc, char** argv) {
    CLI::App cli("Patchlight: see a CCD image, and take its extraction apart", "patchlight-gui");
    cli.set_version_flag("--version", std::string("patchlight-gui ") + std::string(patchlight::version()));
    CLI11_PARSE(cli, argc, argv);
    const QApplication application(argc, argv);
    patchlight::widgets::MainWindow window;
    window.show();
    return QApplication::exec();
}
