#!/usr/bin/env python3
"""Checks the one-way dependence of the folders: core <- gpu, core <- widgets, and app on top.

usage: check_dependencies.py [--root DIR] [--program BINARY] [--self-test]

Three things are checked:
* what the sources of each folder include,
* that every .cpp and .cu file of those folders is named in a CMakeLists.txt (a file nobody compiles is a file nobody checks),
* with --program, that the built headless program links neither Qt nor VTK.
Exit code 1 where something is wrong, with one line for each finding. --self-test checks the checker on made-up trees.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile

OURS = ('core', 'gpu', 'widgets', 'app', 'tests')
SUFFIXES = ('.h', '.hpp', '.cpp', '.cc', '.cu', '.cuh', '.in')

QT = r'Q[A-Z]\w*(/.*)?|qt\w*\.h|q[a-z]+\.h|Qt\w+/.*'
VTK = r'vtk\w*(\.h)?|vtk.*/.*'
CUDA = r'cuda\w*\.h|cuda/.*|cublas\w*\.h|cusolver\w*\.h|cub/.*|thrust/.*|cooperative_groups.*|device_launch_parameters\.h|nvrtc\.h'
MPI = r'mpi\.h|mpi\.hpp|mpi-ext\.h'
NVTX = r'nvtx3/.*'

# folder: (our folders it may include, forbidden third-party headers). The first folder that matches a path counts.
RULES = (
    ('core/', ('core',), {'Qt': QT, 'VTK': VTK, 'the CUDA runtime': CUDA, 'MPI': MPI}),
    ('gpu/', ('core', 'gpu'), {'Qt': QT, 'VTK': VTK, 'MPI': MPI}),
    ('widgets/', ('core', 'widgets'), {'the CUDA runtime': CUDA, 'MPI': MPI}),
    ('app/gui/', ('core', 'gpu', 'widgets', 'app/gui'), {'the CUDA runtime': CUDA, 'MPI': MPI}),
    ('app/mpi/', ('core', 'gpu', 'app/mpi', 'app/batch', 'app/patchlight'), {'Qt': QT, 'VTK': VTK, 'the CUDA runtime': CUDA}),
    ('app/', ('core', 'gpu', 'app'), {'Qt': QT, 'VTK': VTK, 'the CUDA runtime': CUDA, 'MPI': MPI}),
)
# The one place that knows NVTX: a range is named once, for the profiler, the timeline and the log.
NVTX_ALLOWED = re.compile(r'core/base/Timeline\.(h|cpp)$')

INCLUDE = re.compile(r'^[ \t]*#[ \t]*(?:include|include_next|define[ \t]+HWY_TARGET_INCLUDE)[ \t]*[<"]([^">]+)[">]', re.MULTILINE)
COMMENTS = re.compile(r'/\*.*?\*/', re.DOTALL)


def blank(match):
    """A comment, replaced by its newlines so that line numbers stay."""
    return re.sub(r'[^\n]', ' ', match.group())


def source_files(root):
    for top in ('core', 'gpu', 'widgets', 'app'):
        for folder, folders, files in os.walk(os.path.join(root, top)):
            folders.sort()
            for name in sorted(files):
                if name.endswith(SUFFIXES):
                    yield os.path.relpath(os.path.join(folder, name), root).replace(os.sep, '/')


def check_includes(root):
    findings = []
    for path in source_files(root):
        rule = next((r for r in RULES if path.startswith(r[0])), None)
        if rule is None:
            continue
        folder, allowed, forbidden = rule
        with open(os.path.join(root, path), encoding='utf-8') as f:
            text = COMMENTS.sub(blank, f.read())
        for match in INCLUDE.finditer(text):
            header = match.group(1)
            where = f'{path}:{text.count(chr(10), 0, match.start(1)) + 1}'
            if '..' in header.split('/'):
                findings.append(f'{where}: "{header}": include from the root of the repository, without ..')
            elif header.split('/')[0] in OURS and '/' in header:
                if not any(header.startswith(a + '/') for a in allowed):
                    findings.append(f'{where}: {folder} must not include "{header}" (only {", ".join(allowed)})')
            else:
                for name, pattern in forbidden.items():
                    if re.fullmatch(pattern, header):
                        findings.append(f'{where}: {folder} must not include {name} ("{header}")')
                if re.fullmatch(NVTX, header) and not NVTX_ALLOWED.match(path):
                    findings.append(f'{where}: only core/base/Timeline may include NVTX ("{header}")')
    return findings


def check_lists(root):
    """Every source is named in the CMakeLists.txt of its folder or of one above."""
    findings = []
    for path in source_files(root):
        if not path.endswith(('.cpp', '.cu')):
            continue
        folder = os.path.dirname(path)
        found = False
        while folder and not found:
            lists = os.path.join(root, folder, 'CMakeLists.txt')
            if os.path.exists(lists):
                with open(lists, encoding='utf-8') as f:
                    words = re.sub(r'#.*', '', f.read()).replace('(', ' ').replace(')', ' ').split()
                found = os.path.relpath(path, folder).replace(os.sep, '/') in words
            folder = os.path.dirname(folder)
        if not found:
            findings.append(f'{path}: no CMakeLists.txt names this file, so nothing compiles it')
    return findings


def check_links(names):
    return [f'the headless program links {n}' for n in names if re.match(r'lib(Qt\d|vtk)', n)]


def linked_libraries(program):
    out = subprocess.run(['ldd', program], capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in out.splitlines() if line.strip()]


def self_test():
    """Each tree has one fault, and the checker must name just that; trees without a fault must pass."""
    good = {
        'core/CMakeLists.txt': 'add_library(patchlight_core STATIC\n    base/Timeline.cpp\n    psf/Psf.cpp\n)\n',
        'core/psf/Psf.h': '#pragma once\n#include <vector>\n#include "core/base/Error.h"\n',
        'core/psf/Psf.cpp': '#include "core/psf/Psf.h"\n// #include <QString>\n/* #include <mpi.h>\n*/\n#include <fitsio.h>\n',
        'core/base/Timeline.cpp': '#include <nvtx3/nvToolsExt.h>\n',
        'gpu/CMakeLists.txt': 'add_library(patchlight_gpu CudaBackend.cu)\n',
        'gpu/CudaBackend.cu': '#include "gpu/CudaBackend.h"\n#include <cuda_runtime.h>\n#include "core/engine/Backend.h"\n',
        'widgets/View.h': '#include <QWidget>\n#include <vtkActor.h>\n#include "core/psf/Psf.h"\n',
        'app/CMakeLists.txt': 'add_executable(patchlight patchlight/main.cpp)\n',
        'app/patchlight/main.cpp': '#include <CLI/CLI.hpp>\n#include "gpu/CudaBackend.h"\n#include "app/patchlight/Options.h"\n',
        'app/gui/Window.h': '#include "widgets/View.h"\n#include <QMainWindow>\n',
    }
    faults = (
        ('core/psf/Psf.h', '#include <QString>\n', 'Qt'),
        ('core/psf/Psf.h', '#include <QtCore/QString>\n', 'Qt'),
        ('core/psf/Psf.h', '  #  include "vtkActor.h"\n', 'VTK'),
        ('core/psf/Psf.h', '#include <cuda_runtime.h>\n', 'CUDA'),
        ('core/psf/Psf.h', '#include <mpi.h>\n', 'MPI'),
        ('core/psf/Psf.h', '#include <nvtx3/nvToolsExt.h>\n', 'NVTX'),
        ('core/psf/Psf.h', '#include "gpu/CudaBackend.h"\n', 'gpu/CudaBackend.h'),
        ('core/psf/Psf.h', '#include "widgets/View.h"\n', 'widgets/View.h'),
        ('core/psf/Psf.h', '#include "app/patchlight/Options.h"\n', 'app/patchlight/Options.h'),
        ('core/psf/Psf.h', '#include "tests/support/Naive.h"\n', 'tests/support/Naive.h'),
        ('core/psf/Psf.h', '#include "../base/Error.h"\n', 'without ..'),
        ('core/psf/Psf.h', '#define HWY_TARGET_INCLUDE "app/Fast.cpp"\n', 'app/Fast.cpp'),
        ('gpu/CudaBackend.cu', '#include "widgets/View.h"\n', 'widgets/View.h'),
        ('gpu/CudaBackend.cu', '#include <QObject>\n', 'Qt'),
        ('widgets/View.h', '#include "gpu/CudaBackend.h"\n', 'gpu/CudaBackend.h'),
        ('widgets/View.h', '#include "app/gui/Window.h"\n', 'app/gui/Window.h'),
        ('app/patchlight/main.cpp', '#include <QCoreApplication>\n', 'Qt'),
        ('app/patchlight/main.cpp', '#include "widgets/View.h"\n', 'widgets/View.h'),
        ('app/patchlight/main.cpp', '#include <vtkVersion.h>\n', 'VTK'),
        ('core/psf/Forgotten.cpp', '', 'no CMakeLists.txt names'),
    )
    failures = []
    for fault in (None,) + faults:
        with tempfile.TemporaryDirectory() as root:
            tree = dict(good)
            if fault:
                tree[fault[0]] = tree.get(fault[0], '') + fault[1]
            for path, text in tree.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), 'w', encoding='utf-8') as f:
                    f.write(text)
            findings = check_includes(root) + check_lists(root)
        if fault is None and findings:
            failures.append(f'a tree without a fault: {findings}')
        if fault and (len(findings) != 1 or fault[2] not in findings[0] or fault[0] not in findings[0]):
            failures.append(f'{fault}: expected one finding, got {findings}')
    if check_links(['libc.so.6', 'libcfitsio.so.10', 'libQuadmath.so']):
        failures.append('a finding for a program that links no Qt and no VTK')
    if len(check_links(['libQt6Core.so.6', 'libvtkCommonCore-9.1.so.9.1', 'libm.so.6'])) != 2:
        failures.append('Qt or VTK among the linked libraries was not found')
    for line in failures:
        print('self-test: ' + line)
    print(f'self-test: {len(faults) + 3 - len(failures)} of {len(faults) + 3} cases right')
    return bool(failures)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--root', default=os.path.dirname(os.path.dirname(here)), help='the repository (default: the one this script is in)')
    parser.add_argument('--program', help='the built headless program; its libraries are checked too')
    parser.add_argument('--self-test', action='store_true', help='check the checker on made-up trees')
    args = parser.parse_args()
    if args.self_test:
        return self_test()
    files = list(source_files(args.root))
    if not files:
        print(f'{args.root}: no sources found')
        return 1
    findings = check_includes(args.root) + check_lists(args.root)
    if args.program:
        findings += [f'{args.program}: {line}' for line in check_links(linked_libraries(args.program))]
    for line in findings:
        print(line)
    print(f'{len(files)} files, {len(findings)} findings')
    return bool(findings)


if __name__ == '__main__':
    sys.exit(main())
