#!/usr/bin/env python3
"""Command-line tests of `patchlight compare`, `info`, `qa` and `bench`: exit codes, JSON, error lines. Standard library only.

usage: test_analysis.py PATH/TO/patchlight
"""

import csv
import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

PROGRAM = ''
NSPEC, BUNDLE = 6, 3
GRID = (6300.0, 6380.0, 0.8)
NWAVE = 101


def run(*arguments, **environment):
    env = dict(os.environ, LC_ALL='C.UTF-8', **environment)
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, env=env, timeout=600)
    return done.returncode, done.stdout, done.stderr


def error_lines(text):
    return [line for line in text.splitlines() if line.startswith('patchlight: ')]


def hdus(data):
    """(name, header as dict, offset of its header, offset of its data, size) of an uncompressed FITS file."""
    at = 0
    while at < len(data):
        header, begin, ended = {}, at, False
        while not ended:
            for i in range(at, at + 2880, 80):
                card = data[i:i + 80].decode('ascii')
                ended = ended or card[:8] == 'END     '
                if card[8:10] == '= ':
                    value = card[10:].lstrip()
                    header[card[:8].strip()] = value[1:].split("'")[0].strip() if value.startswith("'") else value.split('/')[0].strip()
            at += 2880
        axes = [int(header[f'NAXIS{i + 1}']) for i in range(int(header['NAXIS']))]
        size = (math.prod(axes) + int(header.get('PCOUNT', 0))) * abs(int(header['BITPIX'])) // 8 if axes else 0
        yield header.get('EXTNAME', ''), header, begin, at, size
        at += -(-size // 2880) * 2880


def poke(source, target, name, index, pixel, form):
    """Copies a FITS file with one pixel of one image changed (the checksum no longer fits, which readers do not mind)."""
    with open(source, 'rb') as f:
        data = bytearray(f.read())
    _, _, _, at, _ = next(h for h in hdus(bytes(data)) if h[0] == name)
    width = struct.calcsize(form)
    data[at + index * width:at + (index + 1) * width] = struct.pack(form, pixel)
    with open(target, 'wb') as f:
        f.write(data)


def peek(path, name, index, form):
    with open(path, 'rb') as f:
        data = f.read()
    _, _, _, at, _ = next(h for h in hdus(data) if h[0] == name)
    width = struct.calcsize(form)
    return struct.unpack(form, data[at + index * width:at + (index + 1) * width])[0]


class Analysis(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix='patchlight-cli-')
        cls.old = os.getcwd()
        os.chdir(cls.folder)
        grid = ','.join(map(str, GRID))
        for command in (
                ('simulate', '--preset', 'small', '--nspec', NSPEC, '--bundlesize', BUNDLE, '-w', grid, '--truth-on-grid', '--seed', 5, '-o', 'preproc.fits',
                 '--out-psf', 'psf.fits', '--truth', 'truth.fits'),
                ('extract', '-i', 'preproc.fits', '-p', 'psf.fits', '-w', grid, '--bundlesize', BUNDLE, '--nsubbundles', 1, '-o', 'frame.fits', '-m', 'model.fits'),
                ('extract', '-i', 'preproc.fits', '-p', 'psf.fits', '-w', grid, '--bundlesize', BUNDLE, '--nsubbundles', 1, '--nwavestep', 30, '-o', 'other.fits'),
                ('extract', '-i', 'preproc.fits', '-p', 'psf.fits', '-w', '6310,6360,0.8', '-s', 2, '-n', 3, '--bundlesize', BUNDLE, '--nsubbundles', 1, '-o',
                 'shifted.fits'),
                ('extract', '-i', 'preproc.fits', '-p', 'psf.fits', '-w', '6308,6360,0.8', '-s', 2, '-n', 3, '--bundlesize', BUNDLE, '--nsubbundles', 1, '-o',
                 'part.fits'),
                ('patch', '-i', 'preproc.fits', '-p', 'psf.fits', '-w', grid, '--bundlesize', BUNDLE, '--nsubbundles', 1, '--fiber', 1, '--wave', 6320, '-o',
                 'patch.fits')):
            code, out, err = run(*command)
            if code:
                raise RuntimeError(f'{command}: {code}\n{out}\n{err}')

    @classmethod
    def tearDownClass(cls):
        os.chdir(cls.old)
        shutil.rmtree(cls.folder)

    def assert_fails(self, code, *words, arguments, stdout_empty=True):
        got, out, err = run(*arguments)
        lines = error_lines(err)
        self.assertEqual(got, code, err)
        self.assertEqual(len(lines), 1, err)
        for word in words:
            self.assertIn(word, lines[0])
        if stdout_empty:
            self.assertEqual(out, '')

    # compare

    def test_identical(self):
        code, out, err = run('compare', 'frame.fits', 'frame.fits', '--tolerance', 0, '--ivar-tolerance', 0, '--resolution-tolerance', 0, '--chi2pix-tolerance', 0,
                             '--mask-tolerance', 0)
        self.assertEqual((code, err), (0, ''))
        self.assertIn('within tolerance', out)

    def test_difference_found_where_it_is(self):
        row, column = 4, 33
        index = row * NWAVE + column
        flux, ivar = peek('frame.fits', 'FLUX', index, '>f'), peek('frame.fits', 'IVAR', index, '>f')
        poke('frame.fits', 'poked.fits', 'FLUX', index, flux + 2.5 / math.sqrt(ivar), '>f')
        code, out, _ = run('compare', 'frame.fits', 'poked.fits', '--json')
        self.assertEqual(code, 0)
        report = json.loads(out)
        found = report['differences']['FLUX']
        self.assertAlmostEqual(found['largest'], 2.5, places=3)
        self.assertEqual(found['median'], 0)
        self.assertEqual(found['unequal'], 1)
        self.assertEqual((found['where']['row'], found['where']['bin']), (row, column))
        self.assertAlmostEqual(found['where']['wavelength'], GRID[0] + GRID[2] * column, places=6)
        self.assertIsNone(report['within_tolerance'])
        self.assertEqual(report['differences']['IVAR']['largest'], 0)
        self.assertEqual(len(report['worst']), 1)
        self.assertEqual(run('compare', 'frame.fits', 'poked.fits', '--tolerance', '2.6')[0], 0)
        self.assert_fails(1, 'poked.fits', 'FLUX 2.5', '--tolerance', arguments=('compare', 'frame.fits', 'poked.fits', '--tolerance', '2.4'), stdout_empty=False)
        code, out, _ = run('compare', 'frame.fits', 'poked.fits', '--tolerance', '2.4', '--json')
        self.assertEqual(code, 1)
        self.assertFalse(json.loads(out)['within_tolerance'])

    def test_nan_is_out_of_any_tolerance(self):
        poke('frame.fits', 'nan.fits', 'FLUX', 50, math.nan, '>f')
        self.assert_fails(1, 'FLUX inf', arguments=('compare', 'frame.fits', 'nan.fits', '--tolerance', '1e9'), stdout_empty=False)
        self.assertEqual(json.loads(run('compare', 'frame.fits', 'nan.fits', '--json')[1])['differences']['FLUX']['largest'], 'inf')

    def test_data_in_one_only(self):
        poke('frame.fits', 'hole.fits', 'IVAR', 50, 0.0, '>f')
        self.assert_fails(1, 'data in one frame only', arguments=('compare', 'frame.fits', 'hole.fits', '--tolerance', '1e9'), stdout_empty=False)
        self.assertEqual(run('compare', 'frame.fits', 'hole.fits')[0], 0)

    def test_mask(self):
        poke('frame.fits', 'masked.fits', 'MASK', 60, 0x80 - 2**31, '>i')
        code, out, _ = run('compare', 'frame.fits', 'masked.fits', '--json')
        report = json.loads(out)
        self.assertEqual(report['mask_unequal'], 1)
        bad2dfit = [bit for bit in report['mask_bits'] if bit['name'] == 'BAD2DFIT']
        self.assertEqual(bad2dfit[0]['only_b'], 1)
        self.assertEqual(run('compare', 'frame.fits', 'masked.fits', '--mask-tolerance', 1)[0], 0)
        self.assert_fails(1, '--mask-tolerance', arguments=('compare', 'frame.fits', 'masked.fits', '--mask-tolerance', 0), stdout_empty=False)

    def test_other_patches_agree(self):
        # The same pixels cut into other patches: edge effects of a few hundredths of a sigma.
        code, out, err = run('compare', 'frame.fits', 'other.fits', '--tolerance', '0.5', '--json')
        self.assertEqual(code, 0, err)
        self.assertGreater(json.loads(out)['differences']['FLUX']['largest'], 0)

    def test_common_part(self):
        code, out, err = run('compare', 'frame.fits', 'part.fits', '--json')
        self.assertEqual(code, 0, err)
        report = json.loads(out)
        self.assertEqual((report['nspec'], report['specmin'], report['nwave']), (3, 2, 66))
        self.assertEqual(len(report['notes']), 2)
        self.assert_fails(1, 'shifted.fits', 'different wavelength grids', arguments=('compare', 'frame.fits', 'shifted.fits'))

    def test_truth(self):
        code, out, err = run('compare', 'frame.fits', 'truth.fits', '--json', '--pull-mean', '0.2', '--pull-sigma', '0.2')
        self.assertEqual(code, 0, err)
        report = json.loads(out)
        self.assertTrue(report['truth_on_grid'])
        n = report['pulls']['count']
        self.assertGreater(n, 300)
        self.assertEqual(sum(level['count'] for level in report['by_signal']), n)
        left = report['bins_left_out']
        self.assertEqual(n + left['no_data'] + left['masked'] + left['at_edges'], NSPEC * NWAVE)
        self.assertEqual(len(report['worst']), 5)
        # Either order, and the spectra of a part of the frame are found by fiber.
        self.assertEqual(json.loads(run('compare', 'truth.fits', 'frame.fits', '--json')[1])['pulls'], report['pulls'])
        self.assertEqual(json.loads(run('compare', 'part.fits', 'truth.fits', '--json')[1])['nspec'], 3)
        interpolated = json.loads(run('compare', 'frame.fits', 'truth.fits', '--json', '--truth-resampling', 'interpolation')[1])
        self.assertAlmostEqual(interpolated['pulls']['sigma'], report['pulls']['sigma'], places=2)
        self.assert_fails(1, '--pull-sigma', arguments=('compare', 'frame.fits', 'truth.fits', '--pull-sigma', '0'), stdout_empty=False)
        self.assert_fails(1, 'none of their spectra in common', arguments=('compare', 'frame.fits', 'truth.fits', '--truth-specmin', '100'))

    def test_compare_errors(self):
        self.assert_fails(2, '--tolerance', arguments=('compare', 'frame.fits', 'other.fits', '--tolerance', 'wide'))
        self.assert_fails(2, '--tolerance', arguments=('compare', 'frame.fits', 'other.fits', '--tolerance', '-1'))
        self.assert_fails(2, '--pull-mean', arguments=('compare', 'frame.fits', 'other.fits', '--pull-mean', '1'))
        self.assert_fails(2, 'truth.fits', '--tolerance', arguments=('compare', 'frame.fits', 'truth.fits', '--tolerance', '1'))
        self.assert_fails(2, arguments=('compare', 'frame.fits'))
        self.assert_fails(1, 'psf.fits', 'PSF', arguments=('compare', 'frame.fits', 'psf.fits'))
        self.assert_fails(1, 'preproc.fits', 'CCD image', arguments=('compare', 'preproc.fits', 'frame.fits'))
        self.assert_fails(1, 'truth.fits', arguments=('compare', 'truth.fits', 'truth.fits'))
        self.assert_fails(1, 'missing.fits', arguments=('compare', 'frame.fits', 'missing.fits'))

    # info

    def test_info(self):
        kinds = {'preproc.fits': 'image', 'psf.fits': 'psf', 'frame.fits': 'frame', 'patch.fits': 'patch', 'truth.fits': 'truth', 'model.fits': 'model'}
        for file, kind in kinds.items():
            with self.subTest(file=file):
                code, out, err = run('info', file, '--json')
                self.assertEqual((code, err), (0, ''))
                report = json.loads(out)
                self.assertEqual((report['kind'], report['file']), (kind, file))
                self.assertEqual(report['bytes'], os.path.getsize(file))
                self.assertGreater(len(report['hdus']), 0)
                code, out, err = run('info', file)
                self.assertEqual((code, err), (0, ''))
                lines = out.splitlines()
                self.assertLessEqual(len(lines), 45)
                self.assertLessEqual(max(map(len, lines)), 140)

    def test_info_numbers(self):
        frame = json.loads(run('info', 'frame.fits', '--json')[1])
        self.assertEqual((frame['nspec'], frame['nwave'], frame['specmin']), (NSPEC, NWAVE, 0))
        self.assertAlmostEqual(frame['wavestep'], GRID[2])
        self.assertEqual(frame['fibermap_rows'], NSPEC)
        self.assertEqual(sum(kind['fibers'] for kind in frame['objtypes']), NSPEC)
        self.assertEqual(frame['option_bundlesize'], str(BUNDLE))
        self.assertTrue(1.0 < frame['resolution_fwhm'] < 2.0)
        psf = json.loads(run('info', 'psf.fits', '--json')[1])
        self.assertEqual((psf['psftype'], psf['psfver'], psf['nspec'], psf['hsizex'], psf['hsizey']), ('GAUSS-HERMITE', 3, NSPEC, 8, 5))
        patch = json.loads(run('info', 'patch.fits', '--json')[1])
        self.assertEqual((patch['status'], patch['nspec'], patch['wavepad']), (0, BUNDLE, 12))
        self.assertTrue(1.0 < patch['condest'] < 1e6)
        self.assertTrue(0.5 < patch['chi_rms'] < 1.5)

    def test_info_errors(self):
        self.assert_fails(1, 'missing.fits', arguments=('info', 'missing.fits'))
        with open('text.fits', 'w', encoding='ascii') as f:
            f.write('this is not FITS\n' * 300)
        self.assert_fails(1, 'text.fits', arguments=('info', 'text.fits'))
        with open('frame.fits', 'rb') as f, open('short.fits', 'wb') as g:
            g.write(f.read()[:9000])
        self.assert_fails(1, 'short.fits', arguments=('info', 'short.fits'))
        self.assert_fails(2, '--plot', 'PSF', arguments=('info', 'psf.fits', '--plot', '1'))
        self.assert_fails(2, '--plot 77', '0 to 5', arguments=('info', 'frame.fits', '--plot', '77'))
        self.assert_fails(2, '--range', arguments=('info', 'frame.fits', '--plot', '1', '--range', '1,2'))
        self.assert_fails(2, '--json', arguments=('info', 'frame.fits', '--plot', '1', '--json'))
        self.assert_fails(2, arguments=('info',))

    def test_plot(self):
        code, out, err = run('info', 'frame.fits', '--plot', '3')
        self.assertEqual((code, err), (0, ''))
        lines = out.splitlines()
        self.assertLessEqual(max(map(len, lines)), 80)
        self.assertTrue(lines[0].startswith('fiber 3'))
        self.assertTrue(any('\u2800' <= c <= '\u28ff' for c in out))
        self.assertIn('6340', out)
        code, out, _ = run('info', 'frame.fits', '--plot', '3', '--range', '6320,6330', '--width', '60', '--height', '5', '--scale', 'linear')
        self.assertLessEqual(max(map(len, out.splitlines())), 60)
        self.assertIn('linear', out)

    # bench

    def test_bench(self):
        code, out, err = run('bench', '-i', 'preproc.fits', '-p', 'psf.fits', '-w', ','.join(map(str, GRID)), '--bundlesize', BUNDLE, '--nsubbundles', 1, '--threads',
                             '1,2', '--warmup', 0, '--repeats', 2, '-o', 'bench.json')
        self.assertEqual(code, 0, err)
        self.assertIn('frames/hour', out)
        with open('bench.json', encoding='utf-8') as f:
            report = json.load(f)
        self.assertEqual([r['threads'] for r in report['runs']], [1, 2])
        self.assertEqual((report['frame']['nspec'], report['frame']['nwave']), (NSPEC, NWAVE))
        self.assertEqual(report['options']['bundlesize'], str(BUNDLE))
        self.assertTrue(report['command'].startswith('patchlight bench -i preproc.fits'))
        self.assertGreaterEqual(report['machine']['cores'], 1)
        for r in report['runs']:
            wall = r['total']['wall_seconds']
            self.assertEqual(len(wall['values']), 2)
            self.assertTrue(0 < wall['smallest'] <= wall['median'] <= wall['largest'])
            self.assertAlmostEqual(r['frames_per_node_hour']['total'], 3600 / wall['median'], places=6)
            self.assertGreater(r['extract']['cpu_seconds']['median'], 0)
            self.assertGreater(r['peak_memory_bytes'], 1e6)
            names = [stage['name'] for stage in r['stages']]
            for name in ('read image', 'extract frame', 'write frame'):
                self.assertIn(name, names)

    # qa

    def test_qa(self):
        code, out, err = run('qa', 'frame.fits', '-i', 'preproc.fits', '-p', 'psf.fits', '-o', 'qa.json', '--findings', 'findings.csv',
                             '--bins', 'bins.csv', '--all-bins')
        self.assertEqual(code, 0, err)
        self.assertIn('amplifier', out)
        with open('bins.csv') as f:
            lines = f.read().splitlines()
        self.assertEqual(len(lines), 1 + NSPEC * NWAVE)
        self.assertEqual({line.count(',') for line in lines}, {lines[0].count(',')})
        with open('qa.json') as f:
            report = json.load(f)
        self.assertEqual(report['bins'], NSPEC * NWAVE)
        self.assertEqual(len(report['fibers']), NSPEC)
        self.assertEqual(sum(report['bins_by_kind'].values()), report['alarms'])
        self.assertEqual(report['alarms'], sum(fiber['alarms'] for fiber in report['fibers']))
        self.assertEqual(len(report['amplifiers']), 4)
        for amplifier in report['amplifiers']:
            self.assertFalse(amplifier['dead'])
        with open('findings.csv') as f:
            self.assertEqual(len(f.readlines()), 1 + len(report['findings']))
        self.assertEqual(run('qa', 'frame.fits', '-o', 'qa.csv')[0], 0)
        with open('qa.csv') as f:
            lines = f.read().splitlines()
        self.assertEqual(len(lines), 1 + NSPEC)
        self.assertEqual({line.count(',') for line in lines}, {lines[0].count(',')})

    def test_qa_finds_what_was_planted(self):
        common = ('--preset', 'small', '--nspec', NSPEC, '--bundlesize', BUNDLE, '-w', ','.join(map(str, GRID)), '--seed', 5, '--cosmics', 0, '--bad-columns', 0)
        self.assertEqual(run('simulate', *common, '-o', 'planted.fits', '--out-psf', 'planted-psf.fits', '--plant', 'trace:2,0.3', '--plant', 'cosmic:4,6340')[0], 0)
        self.assertEqual(run('extract', '-i', 'planted.fits', '-p', 'planted-psf.fits', '-w', ','.join(map(str, GRID)), '--bundlesize', BUNDLE, '--nsubbundles',
                             1, '-o', 'planted-frame.fits')[0], 0)
        code, out, err = run('qa', 'planted-frame.fits', '-i', 'planted.fits', '-p', 'planted-psf.fits', '-o', 'planted.json',
                             '--bins', 'planted.csv')
        self.assertEqual(code, 0, err)
        with open('planted.json') as f:
            findings = json.load(f)['findings']
        with open('planted.csv') as f:
            rows = list(csv.DictReader(f))
        self.assertEqual(len(rows), sum(finding['bins'] for finding in findings))
        self.assertEqual(rows[0]['cause'], findings[0]['kind'])  # causes in the same order, the worst first
        self.assertEqual({row['spectrum'] for row in rows if row['cause'] == 'trace_offset'}, {'2'})
        first = {}
        for finding in findings:
            first.setdefault(finding['kind'], finding)
        self.assertEqual(first['trace_offset']['spectrum'], 2)
        self.assertEqual(first['cosmic_ray']['spectrum'], 4)
        self.assertLess(abs(first['cosmic_ray']['wavelength'] - 6340), 2.5)
        self.assertIn('right of the trace', out)
        self.assert_fails(1, '--max-alarms', arguments=('qa', 'planted-frame.fits', '-i', 'planted.fits', '-p', 'planted-psf.fits', '--max-alarms', 1),
                          stdout_empty=False)

    def test_qa_errors(self):
        self.assert_fails(2, '--psf is missing', arguments=('qa', 'frame.fits', '-i', 'preproc.fits'))
        self.assert_fails(2, '.json or .csv', arguments=('qa', 'frame.fits', '-o', 'report.txt'))
        self.assert_fails(1, 'preproc.fits', 'FLUX', arguments=('qa', 'preproc.fits'))
        self.assert_fails(1, 'missing.fits', arguments=('qa', 'frame.fits', '-i', 'missing.fits', '-p', 'psf.fits'))
        self.assert_fails(1, 'nowhere', arguments=('qa', 'frame.fits', '-o', 'nowhere/report.json'))
        self.assert_fails(2, '--plant moon:1', arguments=('simulate', '--preset', 'small', '-o', 'x.fits', '--plant', 'moon:1'))

    def test_bench_simulates(self):
        scratch = os.path.join(self.folder, 'scratch')
        os.mkdir(scratch)
        code, out, err = run('bench', '--fibers', 2, '--bundlesize', 2, '--nsubbundles', 1, '-w', '6500,6540,0.8', '--warmup', 0, '--repeats', 1, '--json', TMPDIR=scratch)
        self.assertEqual(code, 0, err)
        report = json.loads(out)
        self.assertTrue(report['frame']['simulated'])
        self.assertEqual((report['frame']['nspec'], report['frame']['nwave']), (2, 51))
        self.assertEqual(os.listdir(scratch), [])

    def test_bench_errors(self):
        self.assert_fails(2, '--input', '--psf', arguments=('bench', '-i', 'preproc.fits'))
        self.assert_fails(2, '--threads', arguments=('bench', '--threads', 'many'))
        self.assert_fails(2, '--repeats', arguments=('bench', '--repeats', '0'))
        self.assert_fails(2, 'camera', arguments=('bench', '--camera', 'q7'))
        self.assert_fails(1, 'missing.fits', arguments=('bench', '-i', 'missing.fits', '-p', 'psf.fits'))
        self.assert_fails(1, 'no-such-folder', arguments=('bench', '-i', 'preproc.fits', '-p', 'psf.fits', '-o', 'no-such-folder/bench.json'))


if __name__ == '__main__':
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main()
