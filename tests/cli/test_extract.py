#!/usr/bin/env python3
"""Command-line tests of `patchlight extract` and `patch`: files, options, signals, bad input. Standard library only;
where astropy and fitsverify are installed they read the files too.

usage: test_extract.py PATH/TO/patchlight
"""

import array
import gzip
import json
import math
import os
import pty
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import unittest

PROGRAM = ''
NSPEC, BUNDLE, HSIZEY = 10, 5, 5
NX, NY = 200, 300
GRID = (6253.0, 6407.0, 0.8)
NWAVE = 193
NDIAG = 2 * HSIZEY + 1
INPUTS = ('-i', 'preproc.fits', '-p', 'psf.fits')
CUT = ('--bundlesize', BUNDLE, '--nsubbundles', 2)
WHOLE = (*INPUTS, *CUT, '-w', ','.join(map(str, GRID)))
QUICK = (*INPUTS, '--bundlesize', BUNDLE, '--nsubbundles', 5, '-w', '6320,6340,0.8', '-n', 2)  # for what fails or is not looked at
BAD2DFIT, NODATA, ALLBADPIX = 1 << 7, 1 << 8, 1 << 1


def run(*arguments, before=None, **environment):
    env = dict(os.environ, LC_ALL='C.UTF-8', **environment)
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, env=env, timeout=600, preexec_fn=before)
    return done.returncode, done.stdout, done.stderr


def sanitized():
    """Whether the program was built with a sanitizer, whose shadow memory no limit of the address space leaves room for."""
    with open(PROGRAM, 'rb') as f:
        data = f.read()
    return b'__asan_init' in data or b'__tsan_init' in data


# FITS, as much of it as the tests need

class Hdu:
    FORMS = {8: 'B', 16: 'h', 32: 'i', 64: 'q', -32: 'f', -64: 'd'}

    def __init__(self, cards, data):
        self.cards, self.data = cards, data  # without END; without the fill behind the data

    def get(self, key, default=None):
        for card in self.cards:
            if card[:10] == f'{key:8s}= ':
                value = card[10:].strip()
                if value.startswith("'"):
                    return value[1:].split("'")[0].rstrip()
                value = value.split('/')[0].strip()
                return {'T': True, 'F': False}.get(value) if value in 'TF' else float(value) if '.' in value or 'E' in value else int(value)
        return default

    def set(self, key, value):
        text = f"'{value}'" if isinstance(value, str) else str(value)
        card = f'{key:8s}= {text:>20s}'.ljust(80)
        at = [i for i, c in enumerate(self.cards) if c[:8] == f'{key:8s}']
        if at:
            self.cards[at[0]] = card
        else:
            self.cards.append(card)

    def remove(self, *keys):
        self.cards = [c for c in self.cards if c[:8].strip() not in keys]

    @property
    def name(self):
        return self.get('EXTNAME', '')

    @property
    def shape(self):
        return tuple(self.get(f'NAXIS{i}') for i in range(self.get('NAXIS'), 0, -1))

    def values(self):
        pixels = array.array(self.FORMS[self.get('BITPIX')], self.data)
        if sys.byteorder == 'little':
            pixels.byteswap()
        zero = self.get('BZERO', 0)
        return [p + int(zero) for p in pixels] if zero else pixels.tolist()

    def set_values(self, values, bitpix=None):
        pixels = array.array(self.FORMS[bitpix or self.get('BITPIX')], values)
        if sys.byteorder == 'little':
            pixels.byteswap()
        self.data = pixels.tobytes()

    def columns(self):
        """Columns of a table: name -> (offset in a row, TFORM)."""
        widths = {'L': 1, 'A': 1, 'B': 1, 'I': 2, 'J': 4, 'K': 8, 'E': 4, 'D': 8}
        found, offset = {}, 0
        for i in range(1, self.get('TFIELDS') + 1):
            form = self.get(f'TFORM{i}')
            found[self.get(f'TTYPE{i}')] = (offset, form)
            offset += widths[form[-1]] * int(form[:-1] or 1)
        assert offset == self.get('NAXIS1')
        return found

    def rows(self):
        width = self.get('NAXIS1')
        return [self.data[i * width:(i + 1) * width] for i in range(self.get('NAXIS2'))]

    def numbers(self, name):
        """A column of one number a row."""
        offset, form = self.columns()[name]
        letter = {'I': 'h', 'J': 'i', 'K': 'q', 'E': 'f', 'D': 'd'}[form[-1]]
        values = array.array(letter, b''.join(row[offset:offset + array.array(letter).itemsize] for row in self.rows()))
        if sys.byteorder == 'little':
            values.byteswap()
        return values.tolist()

    def bytes(self):
        def fill(part, with_):
            return part + with_ * (-len(part) % 2880)
        return fill(''.join([*self.cards, 'END'.ljust(80)]).encode('ascii'), b' ') + fill(self.data, b'\0')


def image_hdu(name, shape, values, bitpix, primary=False):
    hdu = Hdu([], b'')
    hdu.cards.append('SIMPLE  =                    T'.ljust(80) if primary else "XTENSION= 'IMAGE   '".ljust(80))
    for key, value in (('BITPIX', bitpix), ('NAXIS', len(shape)), *((f'NAXIS{i + 1}', n) for i, n in enumerate(reversed(shape)))):
        hdu.set(key, value)
    if not primary:
        hdu.set('PCOUNT', 0)
        hdu.set('GCOUNT', 1)
    hdu.set('EXTNAME', name)
    hdu.set_values(values, bitpix)
    return hdu


def read_fits(path):
    with open(path, 'rb') as f:
        data = f.read()
    hdus, at = [], 0
    while at < len(data):
        cards = []
        while True:
            card = data[at:at + 80].decode('ascii')
            at += 80
            if card[:8] == 'END     ':
                break
            cards.append(card)
        at = -(-at // 2880) * 2880
        hdu = Hdu(cards, b'')
        axes = hdu.shape
        size = (math.prod(axes) + hdu.get('PCOUNT', 0)) * abs(hdu.get('BITPIX')) // 8 if axes else 0
        hdu.data = data[at:at + size]
        at += -(-size // 2880) * 2880
        hdus.append(hdu)
    return hdus


def by_name(path):
    return {hdu.name: hdu for hdu in read_fits(path)}


def write_fits(path, hdus):
    for hdu in hdus:
        hdu.remove('CHECKSUM', 'DATASUM')
    with open(path, 'wb') as f:
        f.write(b''.join(hdu.bytes() for hdu in hdus))


def changed(source, target, change):
    """Copies a FITS file; `change` gets its HDUs by name and may return the list to write."""
    hdus = read_fits(source)
    write_fits(target, change({hdu.name: hdu for hdu in hdus}) or hdus)
    return target


def without(*names):
    return lambda hdus: [hdu for name, hdu in hdus.items() if name not in names]


def content(path):
    with open(path, 'rb') as f:
        return f.read()


def ones_complement_sum(data):
    words = array.array('I', data)
    assert words.itemsize == 4
    if sys.byteorder == 'little':
        words.byteswap()
    total = sum(words)
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


class Base(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix='patchlight-cli-')
        cls.old = os.getcwd()
        os.chdir(cls.folder)
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.addClassCleanup(os.chdir, cls.old)
        os.mkdir('out')
        cls.must('simulate', '--preset', 'small', '--plain-mask', '--seed', 3, '-o', 'preproc.fits', '--out-psf', 'psf.fits')

    @classmethod
    def must(cls, *arguments, **environment):
        code, out, err = run(*arguments, **environment)
        if code:
            raise AssertionError(f'{arguments}: {code}\n{out}\n{err}')
        return err

    def setUp(self):
        shutil.rmtree('out')
        os.mkdir('out')

    def assert_one_line(self, err, *words):
        lines = err.splitlines()
        for line in lines[:-1]:
            self.assertRegex(line, '^(info|warning): ', err)
        self.assertTrue(lines and lines[-1].startswith('patchlight: '), err)
        self.assertLess(len(lines[-1]), 400)
        for word in words:
            self.assertIn(word, lines[-1])

    def assert_fails(self, code, *words, arguments, left=(), before=None):
        got, out, err = run(*arguments, before=before)
        self.assertEqual(got, code, err)
        self.assertEqual(out, '')
        self.assert_one_line(err, *words)
        self.assertEqual(sorted(os.listdir('out')), sorted(left))
        self.assertEqual([name for name in os.listdir('.') if name.endswith('.tmp')], [])


class Files(Base):
    """What the files hold."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.log = cls.must('extract', *WHOLE, '--threads', 2, '-o', 'frame.fits', '-m', 'model.fits', '--trace', 'trace.json')
        cls.must('patch', *WHOLE, '--fiber', 3, '--wave', 6330, '-o', 'patch.fits')
        cls.image, cls.frame = by_name('preproc.fits'), by_name('frame.fits')

    def test_hdus(self):
        self.assertEqual([hdu.name for hdu in read_fits('frame.fits')],
                         ['FLUX', 'IVAR', 'MASK', 'WAVELENGTH', 'RESOLUTION', 'FIBERMAP', 'CHI2PIX', 'SCORES'])
        for name, bitpix, shape, unit in (('FLUX', -32, (NSPEC, NWAVE), 'electron/Angstrom'), ('IVAR', -32, (NSPEC, NWAVE), None),
                                          ('MASK', 32, (NSPEC, NWAVE), None), ('WAVELENGTH', -64, (NWAVE,), 'Angstrom'),
                                          ('RESOLUTION', -32, (NSPEC, NDIAG, NWAVE), None), ('CHI2PIX', -32, (NSPEC, NWAVE), None)):
            with self.subTest(hdu=name):
                hdu = self.frame[name]
                self.assertEqual((hdu.get('BITPIX'), hdu.shape), (bitpix, shape))
                if unit:
                    self.assertEqual(hdu.get('BUNIT'), unit)
        self.assertEqual(self.frame['MASK'].get('BZERO'), 2**31)
        for i, wavelength in enumerate(self.frame['WAVELENGTH'].values()):
            self.assertAlmostEqual(wavelength, GRID[0] + GRID[2] * i, places=6)
        self.assertEqual(self.frame['FIBERMAP'].rows(), self.image['FIBERMAP'].rows())
        self.assertEqual(self.frame['FIBERMAP'].columns(), self.image['FIBERMAP'].columns())
        # Rows of R sum to 1: a stored column of a bin amid unmasked ones nearly does too.
        resolution, ivar = self.frame['RESOLUTION'].values(), self.frame['IVAR'].values()
        columns = [sum(resolution[(s * NDIAG + k) * NWAVE + j] for k in range(NDIAG)) for s in range(NSPEC) for j in range(20, NWAVE - 20)]
        self.assertAlmostEqual(statistics.median(columns), 1.0, delta=0.02)
        self.assertGreater(sum(v > 0 for v in ivar), 0.98 * NSPEC * NWAVE)

    def test_header(self):
        flux, image = self.frame['FLUX'], self.image['IMAGE']
        structural = {'SIMPLE', 'BITPIX', 'NAXIS', 'NAXIS1', 'NAXIS2', 'EXTEND', 'EXTNAME', 'BUNIT', 'CHECKSUM', 'DATASUM'}
        carried = [card for card in image.cards if card[:8].strip() not in structural]
        self.assertGreater(len(carried), 20)
        for card in carried:
            self.assertIn(card, flux.cards)
        for key, value in {'NSPEC': NSPEC, 'SPECMIN': 0, 'WAVEMIN': GRID[0], 'WAVESTEP': GRID[2], 'IN_PSF': 'psf.fits', 'IN_IMG': 'preproc.fits', 'FIBERMIN': 0,
                           'FLAVOR': 'science', 'BUNDLESZ': BUNDLE, 'NSUBBUN': 2, 'NWAVSTEP': 50, 'WAVEPAD': 10, 'WPADFRAC': 0.2, 'PPADFRAC': 0.8,
                           'REGULARI': 0.0, 'PSFERR': 0.01, 'DECORREL': 'signal', 'NOTAIL': False, 'MODFLUX': 'deconvolved', 'BARYCORR': False,
                           'NOSCORES': False, 'EXTRBACK': 'cpu'}.items():
            if key == 'EXTRBACK' and flux.get(key) == 'cuda':
                continue
            self.assertEqual(flux.get(key), value, key)
        self.assertAlmostEqual(flux.get('WAVEMAX'), GRID[0] + GRID[2] * (NWAVE - 1), places=6)
        self.assertRegex(flux.get('EXTRSOFT'), r'^patchlight \d')
        keys = [card[:8] for card in flux.cards if card[8:10] == '= ']
        self.assertEqual(len(keys), len(set(keys)))
        self.assertIsNone(flux.get('DATE'))

    def test_scores(self):
        scores, flux, ivar = self.frame['SCORES'], self.frame['FLUX'].values(), self.frame['IVAR'].values()
        integral, median, ratio = (scores.numbers(f'{name}_R') for name in ('INTEG_RAW_FLUX', 'MEDIAN_RAW_FLUX', 'MEDIAN_RAW_SNR'))
        for s in range(NSPEC):
            row, weight = flux[s * NWAVE:(s + 1) * NWAVE], ivar[s * NWAVE:(s + 1) * NWAVE]
            self.assertAlmostEqual(integral[s], sum(row) * GRID[2], delta=1e-4 * abs(integral[s]))
            self.assertAlmostEqual(median[s], statistics.median(row), delta=1e-5 * abs(median[s]))
            expected = statistics.median(math.sqrt(w) * f for f, w in zip(row, weight)) / math.sqrt(GRID[2])
            self.assertAlmostEqual(ratio[s], expected, delta=1e-4 * abs(expected))
        self.must('extract', *QUICK, '--no-scores', '-o', 'out/frame.fits')
        self.assertNotIn('SCORES', by_name('out/frame.fits'))

    def test_check_sums(self):
        for file in ('frame.fits', 'model.fits', 'patch.fits'):
            self.assertEqual(os.path.getsize(file) % 2880, 0)
            for hdu in read_fits(file):
                with self.subTest(file=file, hdu=hdu.name):
                    self.assertIn(ones_complement_sum(hdu.bytes()), (0, 0xFFFFFFFF))
                    data = hdu.data + b'\0' * (-len(hdu.data) % 2880)
                    self.assertEqual(int(hdu.get('DATASUM')), ones_complement_sum(data))

    def test_fitsverify(self):
        if not shutil.which('fitsverify'):
            self.skipTest('fitsverify is not installed')
        for file in ('frame.fits', 'model.fits', 'patch.fits'):
            done = subprocess.run(['fitsverify', file], capture_output=True, text=True)
            self.assertIn('Verification found 0 warning(s) and 0 error(s)', done.stdout, file)

    def test_astropy(self):
        python = '/usr/bin/python3' if os.path.exists('/usr/bin/python3') else sys.executable
        if subprocess.run([python, '-c', 'import astropy.io.fits'], capture_output=True).returncode:
            self.skipTest(f'{python} has no astropy')
        script = '''
import sys, warnings
warnings.simplefilter('error')
from astropy.io import fits
for path in ('frame.fits', 'model.fits', 'patch.fits'):
    with fits.open(path, checksum=True) as file:
        file.verify('exception')
        for hdu in file:
            hdu.data
with fits.open('frame.fits') as file:
    assert file['MASK'].data.dtype.name == 'uint32', file['MASK'].data.dtype
    assert file['WAVELENGTH'].data.dtype.newbyteorder('=') == 'float64'
    assert list(file['FIBERMAP'].data['FIBER']) == list(range(10))
    assert set(file['SCORES'].data['TARGETID']) == set(file['FIBERMAP'].data['TARGETID'])
'''
        done = subprocess.run([python, '-c', script], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ''))

    def test_model(self):
        hdus = read_fits('model.fits')
        self.assertEqual([hdu.name for hdu in hdus], ['MODEL'])
        self.assertEqual((hdus[0].get('BITPIX'), hdus[0].shape), (-32, (NY, NX)))
        self.assertEqual(hdus[0].get('CAMERA'), 'r0')
        model, image, ivar, mask = hdus[0].values(), *(self.image[name].values() for name in ('IMAGE', 'IVAR', 'MASK'))
        rows = range(60, 240)  # behind the ends of the wavelength grid
        chi = [(image[p] - model[p]) * math.sqrt(ivar[p]) for y in rows for p in range(y * NX, (y + 1) * NX) if model[p] != 0 and mask[p] == 0 and ivar[p] > 0]
        self.assertGreater(len(chi), 5000)
        self.assertAlmostEqual(statistics.pstdev(chi), 1.0, delta=0.15)

    def test_patch(self):
        file, frame = by_name('patch.fits'), self.frame
        keys = {key: file['PATCH'].get(key) for key in ('BSPECMIN', 'SPECMIN', 'NSPEC', 'CORESPEC', 'NCORE', 'WAVE0', 'DW', 'NWAVE', 'WAVEPAD', 'NCOREWAV', 'XMIN',
                                                         'YMIN', 'NX', 'NY', 'STATUS', 'CONDEST')}
        self.assertNotIn(None, keys.values(), keys)
        nspec, nwave, pad = keys['NSPEC'], keys['NWAVE'], keys['WAVEPAD']
        n = nspec * nwave
        # Subbundles of 3 and 2 in a bundle of 5, the smaller one at an edge since there is no other place: fiber 3 and one of padding.
        self.assertTrue(keys['CORESPEC'] <= 3 < keys['CORESPEC'] + keys['NCORE'])
        self.assertEqual((nspec, nwave, pad, keys['NCOREWAV'], keys['STATUS']), (keys['NCORE'] + 1, 50 + 24, 12, 50, 0))
        first = round((keys['WAVE0'] - GRID[0]) / GRID[2]) + pad
        self.assertTrue(first <= round((6330 - GRID[0]) / GRID[2]) < first + 50)
        self.assertEqual(first % 50, 0)
        self.assertTrue(1 < keys['CONDEST'] < 1e6)
        for key in ('BUNDLESZ', 'NSUBBUN', 'REGULARI', 'IN_PSF', 'EXTRSOFT', 'CAMERA'):
            self.assertIsNotNone(file['PATCH'].get(key), key)
        shapes = {name: (keys['NY'], keys['NX']) for name in ('IMAGE', 'PIXIVAR', 'PIXMASK', 'MODEL', 'CHI')}
        shapes |= {name: (nspec, nwave) for name in ('Y', 'XFLUX', 'FLUX', 'IVAR', 'FLUXWEIGHT', 'CHI2PIX', 'PIXMASK_FRACTION')}
        shapes |= {'ICOV': (n, n), 'RESOLUTION': (n, n)}
        for name, shape in shapes.items():
            self.assertEqual((file[name].get('BITPIX'), file[name].shape), (-64, shape), name)
        self.assertEqual(set(file), {'PATCH', *shapes})
        value = {name: file[name].values() for name in shapes}

        # The window is that of the image.
        pixels, weights, mask = (self.image[name].values() for name in ('IMAGE', 'IVAR', 'MASK'))
        for y in range(keys['NY']):
            at, here = (keys['YMIN'] + y) * NX + keys['XMIN'], y * keys['NX']
            for x in range(keys['NX']):
                good = mask[at + x] == 0 and weights[at + x] > 0
                self.assertEqual(value['PIXIVAR'][here + x], weights[at + x] if good else 0)
                self.assertEqual(value['PIXMASK'][here + x] != 0, not good)
                if good:
                    self.assertEqual(value['IMAGE'][here + x], pixels[at + x])
                    model = value['MODEL'][here + x]
                    chi = (pixels[at + x] - model) / math.sqrt(1 / weights[at + x] + (0.01 * model)**2) if model else 0.0
                    self.assertAlmostEqual(value['CHI'][here + x], chi, delta=1e-9 * max(1, abs(chi)))

        # The intermediates belong together: iCov xflux = y, flux = R xflux, rows of R sum to 1.
        for i in range(n):
            row = value['ICOV'][i * n:(i + 1) * n]
            self.assertAlmostEqual(math.fsum(a * b for a, b in zip(row, value['XFLUX'])), value['Y'][i], delta=1e-8 * max(map(abs, value['Y'])))
            row = value['RESOLUTION'][i * n:(i + 1) * n]
            self.assertAlmostEqual(math.fsum(row), 1.0, places=9)
            self.assertAlmostEqual(math.fsum(a * b for a, b in zip(row, value['XFLUX'])), value['FLUX'][i], delta=1e-9 * max(map(abs, value['FLUX'])))

        # Its core is what the frame holds: in photons per bin here, per Angstrom and as float32 there.
        dw = GRID[2]
        flux, ivar, chi2, resolution = (frame[name].values() for name in ('FLUX', 'IVAR', 'CHI2PIX', 'RESOLUTION'))
        for s in range(keys['CORESPEC'], keys['CORESPEC'] + keys['NCORE']):
            for j in range(50):
                i, k = (s - keys['SPECMIN']) * nwave + pad + j, s * NWAVE + first + j
                weight = value['IVAR'][i] * dw * dw
                self.assertAlmostEqual(ivar[k], weight, delta=1e-6 * weight)
                sigma = 1 / math.sqrt(weight)
                self.assertAlmostEqual(flux[k], value['FLUX'][i] / dw, delta=1e-6 * sigma + 2**-23 * abs(flux[k]))
                self.assertAlmostEqual(chi2[k], value['CHI2PIX'][i], delta=1e-5 * max(1, chi2[k]))
                for d in range(NDIAG):
                    other = i - HSIZEY + d
                    self.assertAlmostEqual(resolution[(s * NDIAG + d) * NWAVE + first + j], value['RESOLUTION'][other * n + i], delta=1e-6)

    def test_patch_by_pixel(self):
        header = by_name('patch.fits')['PATCH']
        # The trace of fiber 3 at 6330 Angstrom, from the PSF.
        psf = read_fits('psf.fits')
        u = 2 * (6330 - psf[0].get('WAVEMIN')) / (psf[0].get('WAVEMAX') - psf[0].get('WAVEMIN')) - 1

        def trace(hdu):
            degree = hdu.shape[1]
            polynomials = [1.0, u]
            for m in range(2, degree):
                polynomials.append(((2 * m - 1) * u * polynomials[m - 1] - (m - 1) * polynomials[m - 2]) / m)
            return sum(c * p for c, p in zip(hdu.values()[3 * degree:4 * degree], polynomials))
        x, y = trace(psf[0]), trace(psf[1])
        self.assertTrue(header.get('XMIN') < x < header.get('XMIN') + header.get('NX'))
        self.must('patch', *WHOLE, '--xy', f'{x:.2f},{y:.2f}', '-o', 'out/patch.fits')
        self.assertEqual(content('out/patch.fits'), content('patch.fits'))

    def test_any_spectra(self):
        # Whichever spectra are asked for, they come out the same, bit for bit; only BAD2DFIT looks at the whole frame.
        for specmin, nspec in ((3, 4), (4, 1), (7, 0), (0, 3)):
            with self.subTest(specmin=specmin, nspec=nspec):
                self.must('extract', *WHOLE, '-s', specmin, '-n', nspec, '-o', 'out/part.fits')
                part = by_name('out/part.fits')
                count = nspec or NSPEC - specmin
                self.assertEqual(part['FLUX'].shape, (count, NWAVE))
                for name in ('FLUX', 'IVAR', 'RESOLUTION', 'CHI2PIX'):
                    width = len(self.frame[name].data) // NSPEC
                    self.assertEqual(part[name].data, self.frame[name].data[specmin * width:(specmin + count) * width], name)
                self.assertEqual(part['WAVELENGTH'].data, self.frame['WAVELENGTH'].data)
                whole = self.frame['MASK'].values()[specmin * NWAVE:(specmin + count) * NWAVE]
                self.assertEqual([m & ~BAD2DFIT for m in part['MASK'].values()], [m & ~BAD2DFIT for m in whole])
                self.assertEqual(part['FIBERMAP'].rows(), self.frame['FIBERMAP'].rows()[specmin:specmin + count])
                self.assertEqual(part['SCORES'].rows(), self.frame['SCORES'].rows()[specmin:specmin + count])
                self.assertEqual([part['FLUX'].get(key) for key in ('NSPEC', 'SPECMIN', 'FIBERMIN')], [count, specmin, specmin])

    def test_threads(self):
        for threads in (1, 3):
            self.must('extract', *WHOLE, '--threads', threads, '-o', f'out/frame{threads}.fits', '-m', f'out/model{threads}.fits')
            self.assertEqual(content(f'out/frame{threads}.fits'), content('frame.fits'))
            self.assertEqual(content(f'out/model{threads}.fits'), content('model.fits'))

    def test_trace(self):
        with open('trace.json', encoding='utf-8') as f:
            events = json.load(f)['traceEvents']
        ranges = [event for event in events if event['ph'] == 'X']
        names = {event['name'] for event in ranges}
        for name in ('read PSF', 'read image', 'extract frame', 'model image', 'write frame', 'write model'):
            self.assertIn(name, names)
        slack = 0.002  # microseconds: rounding of the file's numbers
        for tid in {event['tid'] for event in ranges}:
            open_until = []
            for event in sorted((e for e in ranges if e['tid'] == tid), key=lambda e: (e['ts'], -e['dur'])):
                begin, end = event['ts'], event['ts'] + event['dur']
                self.assertGreaterEqual(event['dur'], 0)
                while open_until and open_until[-1] <= begin + slack:
                    open_until.pop()
                if open_until:
                    self.assertLessEqual(end, open_until[-1] + slack, event)
                open_until.append(end)

    def test_fibermap_file(self):
        def renumber(hdus):
            table = hdus['FIBERMAP']
            offset, form = table.columns()['FIBER']
            self.assertEqual(form[-1], 'J')
            table.data = b''.join(row[:offset] + (1500 + i).to_bytes(4, 'big') + row[offset + 4:] for i, row in enumerate(table.rows()))
            return [image_hdu('', (), [], 8, primary=True), table]
        changed('preproc.fits', 'fibermap.fits', renumber)
        self.must('extract', *WHOLE, '-f', 'fibermap.fits', '-s', 2, '-n', 3, '-o', 'out/frame.fits')
        frame = by_name('out/frame.fits')
        self.assertEqual(frame['FIBERMAP'].rows(), by_name('fibermap.fits')['FIBERMAP'].rows()[2:5])
        self.assertEqual(frame['FIBERMAP'].numbers('FIBER'), [1502, 1503, 1504])
        self.assertEqual(frame['FLUX'].get('FIBERMIN'), 1502)

    def test_optional_inputs(self):
        changed('preproc.fits', 'nomask.fits', without('MASK', 'READNOISE'))

        def unmask(hdus):
            hdus['MASK'].set_values([0] * (NX * NY))
        changed('preproc.fits', 'unmasked.fits', unmask)
        for name in ('nomask', 'unmasked'):
            self.must('extract', '-i', f'{name}.fits', *QUICK[2:], '-o', f'out/{name}.fits')
        a, b = by_name('out/nomask.fits'), by_name('out/unmasked.fits')
        for name in ('FLUX', 'IVAR', 'MASK', 'RESOLUTION', 'CHI2PIX'):
            self.assertEqual(a[name].data, b[name].data)

        def third(hdus):
            hdus['IMAGE'].set('CAMERA', 'r3')
            hdus['IMAGE'].remove('FLAVOR')
            del hdus['FIBERMAP']
            return list(hdus.values())
        changed('preproc.fits', 'bare.fits', third)
        err = self.must('extract', '-i', 'bare.fits', *QUICK[2:], '-s', 4, '-o', 'out/bare.fits')
        warnings = [line for line in err.splitlines() if line.startswith('warning: ')]
        self.assertTrue(any('bare.fits' in line and 'FIBERMAP' in line for line in warnings), err)
        self.assertTrue(any('bare.fits' in line and 'FLAVOR' in line for line in warnings), err)
        frame = by_name('out/bare.fits')
        self.assertNotIn('FIBERMAP', frame)
        self.assertEqual((frame['FLUX'].get('FIBERMIN'), frame['FLUX'].get('FLAVOR')), (1504, 'science'))

    def test_compressed_inputs(self):
        self.must('simulate', '--preset', 'small', '--seed', 3, '-o', 'tiled.fits.gz')  # MASK in RICE tiles, all of it in gzip
        self.must('extract', '-i', 'tiled.fits', *WHOLE[2:], '-o', 'out/frame.fits.gz')  # found with .gz added
        with gzip.open('out/frame.fits.gz') as f, open('out/frame.fits', 'wb') as g:
            g.write(f.read())
        frame = by_name('out/frame.fits')
        for name in ('FLUX', 'IVAR', 'MASK', 'RESOLUTION', 'CHI2PIX', 'FIBERMAP', 'SCORES'):
            self.assertEqual(frame[name].data, self.frame[name].data, name)

    def test_older_output_is_replaced(self):
        with open('out/frame.fits', 'w', encoding='ascii') as f:
            f.write('an older file')
        self.must('extract', *QUICK, '-o', 'out/frame.fits')
        self.assertEqual(os.listdir('out'), ['frame.fits'])
        self.assertEqual(len(by_name('out/frame.fits')), 8)


class Options(Base):
    """Names and short forms of desi_extract_spectra and spex, the log and the terminal."""

    def header(self, *arguments):
        self.must('extract', *arguments, '-o', 'out/frame.fits')
        return by_name('out/frame.fits')['FLUX']

    def test_long_and_short_names(self):
        self.must('extract', '-i', 'preproc.fits', '-p', 'psf.fits', '-f', 'preproc.fits', '-w', '6320,6340,0.8', '-s', 3, '-n', 2, '-r', 0.001, '--bundlesize', 5,
                  '--nsubbundles', 5, '-o', 'out/short.fits', '-m', 'out/model.fits', '-v')
        self.must('extract', '--input', 'preproc.fits', '--psf=psf.fits', '--fibermap', 'preproc.fits', '--wavelength', '6320,6340,0.8', '--specmin', 3, '--nspec', 2,
                  '--regularize', 0.001, '--bundlesize=5', '--nsubbundles', 5, '--output', 'out/long.fits', '--model', 'out/model2.fits', '--verbose')
        self.assertEqual(content('out/short.fits'), content('out/long.fits'))
        self.assertEqual(content('out/model.fits'), content('out/model2.fits'))
        flux = by_name('out/short.fits')['FLUX']
        self.assertEqual((flux.get('REGULARI'), flux.get('SPECMIN'), flux.get('NSPEC')), (0.001, 3, 2))

    def test_values_arrive(self):
        for key, value, arguments in (
                ('NWAVSTEP', 30, ('--nwavestep', 30)), ('WAVEPAD', 12, ('--wavepad', 12)), ('WPADFRAC', 0.5, ('--wavepad-frac', 0.5)),
                ('PPADFRAC', 0.0, ('--pixpad-frac', 0)), ('PSFERR', 0.03, ('--psferr', 0.03)), ('DECORREL', 'noise', ('--decorrelate', 'noise')),
                ('DECORREL', 'noise', ('--decorrelate-fibers',)), ('NOSCORES', True, ('--no-scores',)), ('NOTAIL', True, ('--no-psf-tail',)),
                ('BARYCORR', True, ('--barycentric-correction',)), ('MODFLUX', 'reconvolved', ('--model-flux', 'reconvolved')),
                ('METHOD', 'seamless', ('--method', 'seamless')), ('METHOD', 'patches', ()),
                ('EXTRBACK', 'cpu', ('--no-gpu',)), ('EXTRBACK', 'cpu', ('--backend', 'cpu'))):
            with self.subTest(arguments=arguments):
                self.assertEqual(self.header(*QUICK, *arguments).get(key), value)

    def test_decorrelate_fibers(self):
        self.must('extract', *QUICK, '--decorrelate-fibers', '-o', 'out/a.fits')
        self.must('extract', *QUICK, '--decorrelate', 'noise', '-o', 'out/b.fits')
        self.assertEqual(content('out/a.fits'), content('out/b.fits'))

    def test_barycentric_correction(self):
        self.must('extract', *QUICK, '--barycentric-correction', '-o', 'out/a.fits')
        self.must('extract', *QUICK, '-o', 'out/b.fits')
        a, b = by_name('out/a.fits'), by_name('out/b.fits')
        self.assertTrue(0 < abs(a['FLUX'].get('HELIOCOR') - 1) < 1.2e-4)
        self.assertIsNone(b['FLUX'].get('HELIOCOR'))
        self.assertEqual(a['WAVELENGTH'].data, b['WAVELENGTH'].data)
        self.assertNotEqual(a['FLUX'].data, b['FLUX'].data)

    def test_ignored_and_refused(self):
        self.must('extract', *QUICK, '-o', 'out/plain.fits')
        for arguments in (('--use-specter',), ('--async-io',), ('--ranks-per-bundle', 2)):
            err = self.must('extract', *QUICK, *arguments, '-o', 'out/frame.fits')
            self.assertTrue(any(line.startswith(f'warning: {arguments[0]}') and 'ignored' in line for line in err.splitlines()), err)
            self.assertEqual(content('out/frame.fits'), content('out/plain.fits'))
        for arguments, word in ((('--mpi', '--no-mpi'), '--mpi'), (('--use-gpu', '--no-gpu'), '--no-gpu')):
            self.assert_fails(2, word, arguments=('extract', *QUICK, *arguments, '-o', 'out/frame2.fits'), left=('frame.fits', 'plain.fits'))
        for arguments in (('--use-gpu',), ('--backend', 'cuda')):
            code, _, err = run('extract', *QUICK, *arguments, '-o', 'out/frame.fits')
            if code:  # no GPU here
                self.assertEqual(code, 2)
                self.assert_one_line(err, 'cuda')

    def test_help_names_every_option(self):
        code, out, err = run('extract', '--help')
        self.assertEqual((code, err), (0, ''))
        for name in ('-i,--input', '-p,--psf', '-o,--output', '-m,--model', '-f,--fibermap', '-w,--wavelength', '-s,--specmin', '-n,--nspec', '-r,--regularize',
                     '--method', '--bundlesize', '--nsubbundles', '--nwavestep', '--wavepad ', '--wavepad-frac', '--pixpad-frac', '--psferr', '--decorrelate ', '--no-psf-tail',
                     '--model-flux', '--barycentric-correction', '--no-scores', '--backend', '--threads', '--trace', '-v,--verbose', '--use-gpu', '--no-gpu',
                     '--decorrelate-fibers', '--mpi', '--no-mpi', '--use-specter', '--async-io', '--ranks-per-bundle'):
            self.assertIn(name, out)

    def test_log(self):
        self.assertEqual(self.must('extract', *QUICK, '-o', 'out/frame.fits', '--loglevel', 'warn'), '')
        for level in ('debug', 'info'):
            err = self.must('extract', *QUICK, '-o', 'out/frame.fits', '--loglevel', level)
            for line in err.splitlines():
                self.assertRegex(line, '^(debug|info|warning): ')
            self.assertEqual([c for c in err if not c.isprintable() and c != '\n'], [])
            self.assertRegex(err, 'info: 100 % of [0-9]+ patches')
            self.assertIn('info: wrote out/frame.fits', err)

    def test_terminal(self):
        master, slave = pty.openpty()
        process = subprocess.Popen([PROGRAM, 'extract', *map(str, QUICK), '-o', 'out/frame.fits'], stderr=slave, stdin=subprocess.DEVNULL, env=dict(os.environ, TERM='xterm'))
        os.close(slave)
        text = b''
        while True:
            try:
                piece = os.read(master, 4096)
            except OSError:  # Linux: the other end was closed
                break
            if not piece:
                break
            text += piece
        os.close(master)
        self.assertEqual(process.wait(60), 0, text)
        self.assertRegex(text, rb'\r\[#*\.*\] +[0-9]+ % of [0-9]+ patches')
        self.assertRegex(text, rb'\r\[#+\] 100 % of [0-9]+ patches')
        bar, after = text[text.rindex(b'\r['):].split(b'left', 1)
        self.assertTrue(after.lstrip(b' ').startswith(b'\x1b[K\r\x1b[K'), after)  # the bar is taken away
        self.assertEqual(text.count(b'\n'), len([line for line in text.split(b'\n') if b': ' in line and line.endswith(b'\r')]))

    def test_signals(self):
        # Large patches with dense algebra: slow enough that the signal meets the run well before its end. On a machine so
        # busy that it does not, once more.
        slow = (*INPUTS, '--bundlesize', 10, '--nsubbundles', 1, '--decorrelate', 'noise', '-w', '6238,6422,0.4', '--nwavestep', 10, '--threads', 1)
        for number in (signal.SIGINT, signal.SIGTERM):
            for _ in range(3):
                self.setUp()
                process = subprocess.Popen([PROGRAM, 'extract', *map(str, slow), '-o', 'out/frame.fits', '-m', 'out/model.fits', '--trace', 'out/trace.json'],
                                           stderr=subprocess.PIPE, text=True)
                seen = []
                for line in process.stderr:
                    seen.append(line)
                    if ' % of ' in line:
                        break
                process.send_signal(number)
                seen += process.stderr.readlines()
                process.stderr.close()
                if process.wait(120) != 0:
                    break
            with self.subTest(signal=number):
                self.assertEqual(process.returncode, 1, seen)
                self.assertEqual(seen[-1], 'patchlight: cancelled\n')
                self.assertNotIn('100 %', ''.join(seen))
                self.assertEqual(os.listdir('out'), [])


class BadInput(Base):
    """Each gives one line that names the culprit and leaves no file."""

    def extract(self, *arguments, image='preproc.fits', psf='psf.fits', output='out/frame.fits'):
        return ('extract', '-i', image, '-p', psf, *QUICK[4:], *arguments, '-o', output)

    def patch(self, *arguments, image='preproc.fits', psf='psf.fits', output='out/patch.fits'):
        return ('patch', '-i', image, '-p', psf, *QUICK[4:], *(arguments or ('--fiber', 1, '--wave', 6330)), '-o', output)

    def both(self, code, *words, **files):
        for command in (self.extract(**files), self.patch(**files)):
            with self.subTest(command=command):
                self.assert_fails(code, *words, arguments=command)

    def test_unreadable(self):
        os.makedirs('folder.fits', exist_ok=True)
        with open('text.fits', 'w', encoding='ascii') as f:
            f.write('this is not FITS\n' * 300)
        open('empty.fits', 'w').close()
        for name in ('nothing.fits', 'folder.fits', 'text.fits', 'empty.fits', 'no/such/folder.fits'):
            self.both(1, name, image=name)
            self.both(1, name, psf=name)
            self.assert_fails(1, name, arguments=self.extract('-f', name))
        self.both(1, 'psf.fits', 'IMAGE', image='psf.fits')
        self.both(1, 'preproc.fits', 'PSF', psf='preproc.fits')
        self.assert_fails(1, 'psf.fits', 'FIBERMAP', arguments=self.extract('-f', 'psf.fits'))

    def test_truncated(self):
        for source, role in (('preproc.fits', 'image'), ('psf.fits', 'psf')):
            data = content(source)
            for length in (100, 2880, 2900, 6000, len(data) // 2, len(data) - 6000, len(data) - 2881):
                with open('short.fits', 'wb') as f:
                    f.write(data[:length])
                with self.subTest(source=source, length=length):
                    self.assert_fails(1, 'short.fits', arguments=self.extract(**{role: 'short.fits'}))
            packed = gzip.compress(data, 1)
            for length in (5, 30, len(packed) // 2, len(packed) - 4):
                with open('short.fits.gz', 'wb') as f:
                    f.write(packed[:length])
                with self.subTest(source=source, packed=length):
                    self.assert_fails(1, 'short.fits.gz', arguments=self.extract(**{role: 'short.fits.gz'}))

    def test_images(self):
        changed('preproc.fits', 'noivar.fits', without('IVAR'))
        self.both(1, 'noivar.fits', 'IVAR', image='noivar.fits')

        def other_shape(name):
            def change(hdus):
                hdus[name].set('NAXIS2', NY - 1)
                hdus[name].data = hdus[name].data[:len(hdus[name].data) // NY * (NY - 1)]
            return change
        for name in ('IVAR', 'MASK'):
            changed('preproc.fits', 'shape.fits', other_shape(name))
            self.both(1, 'shape.fits', name, str(NY - 1), str(NY), image='shape.fits')

        def cube(hdus):
            hdus['IMAGE'] = image_hdu('IMAGE', (2, 3, 4), [1.0] * 24, -32, primary=True)
            return list(hdus.values())
        changed('preproc.fits', 'cube.fits', cube)
        self.both(1, 'cube.fits', 'IMAGE', image='cube.fits')

        def few_rows(hdus):
            table = hdus['FIBERMAP']
            table.data = b''.join(table.rows()[:1])
            table.set('NAXIS2', 1)
        changed('preproc.fits', 'few.fits', few_rows)
        self.both(1, 'few.fits', 'FIBERMAP', '1 rows', image='few.fits')
        self.assert_fails(1, 'few.fits', 'FIBERMAP', '1 rows', arguments=self.extract('-f', 'few.fits'))

        def no_pointing(hdus):
            hdus['IMAGE'].remove('TARGTRA', 'TARGTDEC')
        changed('preproc.fits', 'pointing.fits', no_pointing)
        self.assert_fails(1, 'pointing.fits', 'TARGTRA', arguments=self.extract('--barycentric-correction', image='pointing.fits'))

    def test_psfs(self):
        def size(hdus):
            hdus['PSF'].set('NPIX_X', NX + 14)
        changed('psf.fits', 'size.fits', size)
        self.both(1, 'preproc.fits', 'size.fits', '200 x 300', '214 x 300', psf='size.fits')

        def kind(hdus):
            for hdu in hdus.values():
                if hdu.get('PSFTYPE'):
                    hdu.set('PSFTYPE', 'SPOTGRID')
        changed('psf.fits', 'kind.fits', kind)
        self.both(1, 'kind.fits', 'PSFTYPE', 'SPOTGRID', psf='kind.fits')

        def parameter(hdus):
            table = hdus['PSF']
            assert b'GHSIGX  ' in table.data
            table.data = table.data.replace(b'GHSIGX  ', b'NOTHING ')
        changed('psf.fits', 'parameter.fits', parameter)
        self.both(1, 'parameter.fits', 'GHSIGX', psf='parameter.fits')

        def keyword(hdus):
            for hdu in hdus.values():
                hdu.remove('HSIZEY')
        changed('psf.fits', 'keyword.fits', keyword)
        self.both(1, 'keyword.fits', 'HSIZEY', psf='keyword.fits')
        for name in ('XTRACE', 'YTRACE', 'PSF'):
            changed('psf.fits', 'part.fits', without(name))
            if name == 'XTRACE':  # the primary: put an empty one there
                write_fits('part.fits', [image_hdu('', (), [], 8, primary=True), *read_fits('psf.fits')[1:]])
            self.both(1, 'part.fits', name, psf='part.fits')

    def test_no_data(self):
        def with_values(name, value):
            def change(hdus):
                hdus[name].set_values([value] * (NX * NY))
            return change
        for name, value in (('IMAGE', math.nan), ('IVAR', math.nan), ('IVAR', 0.0), ('IVAR', -1.0), ('MASK', 1), ('IMAGE', math.inf)):
            with self.subTest(hdu=name, value=value):
                changed('preproc.fits', 'nodata.fits', with_values(name, value))
                self.must(*self.extract('-m', 'out/model.fits', image='nodata.fits'))
                frame = by_name('out/frame.fits')
                for hdu in ('FLUX', 'IVAR', 'RESOLUTION', 'CHI2PIX'):
                    self.assertEqual(set(frame[hdu].values()), {0.0}, hdu)
                self.assertTrue(all(m & ALLBADPIX for m in frame['MASK'].values()))
                self.assertEqual(set(by_name('out/model.fits')['MODEL'].values()), {0.0})
                self.must(*self.patch(image='nodata.fits'))
                self.assertEqual(set(by_name('out/patch.fits')['IVAR'].values()), {0.0})

    def test_one_nan_is_one_masked_pixel(self):
        def poke(hdu, value):
            def change(hdus):
                values = hdus[hdu].values()
                for i in range(140 * NX, 140 * NX + NX, 7):
                    values[i] = value
                hdus[hdu].set_values(values)
            return change
        for target, hdu, value in (('nan.fits', 'IMAGE', math.nan), ('masked.fits', 'IVAR', 0.0)):
            changed('preproc.fits', target, poke(hdu, value))
            self.must(*self.extract(image=target, output=f'out/{target}'))
        a, b = by_name('out/nan.fits'), by_name('out/masked.fits')
        for name in ('FLUX', 'IVAR', 'MASK', 'RESOLUTION', 'CHI2PIX'):
            self.assertEqual(a[name].data, b[name].data)

    def test_wavelengths(self):
        for grid in ('7000,7100,0.8', '6000,6340,0.8', '6300,9000,0.8'):
            self.assert_fails(1, '--wavelength', 'psf.fits', arguments=('extract', *INPUTS, *CUT, '-w', grid, '-o', 'out/frame.fits'))
        for grid in ('6300,6340,0', '6300,6340,-0.8', '6340,6300,0.8', '6300,6340', '6300,6340,0.8,1', 'a,b,c', '', 'nan,6340,0.8', '6300,6340,nan', '6300,inf,0.8',
                     '6300,6340,1e-9', '-1,6340,0.8'):
            self.assert_fails(2, '--wavelength', grid, arguments=('extract', *INPUTS, *CUT, f'--wavelength={grid}', '-o', 'out/frame.fits'))

    def test_nonsense_options(self):
        for arguments in (('--bundlesize', 0), ('--bundlesize', -5), ('--bundlesize', 'many'), ('--bundlesize', 2.5), ('--bundlesize', 99999999999), ('--nsubbundles', 0),
                          ('--nsubbundles', 6), ('--nwavestep', 0), ('--wavepad', -1), ('--wavepad-frac', -0.1), ('--pixpad-frac', 2), ('--pixpad-frac', 'nan'),
                          ('--psferr', -1), ('--regularize', -1), ('--regularize', 'nan'), ('--decorrelate', 'both'), ('--method', 'seams'), ('--model-flux', 'x'), ('--specmin', -1),
                          ('--specmin', NSPEC), ('--nspec', -1), ('--nspec', NSPEC + 1), ('--nspec', 2147483647), ('--threads', -1), ('--threads', 'all'),
                          ('--backend', 'abacus'), ('--loglevel', 'loud'), ('--unknown',)):
            with self.subTest(arguments=arguments):
                self.assert_fails(2, arguments[0], arguments=('extract', *INPUTS, '--bundlesize', 5, *arguments, '-o', 'out/frame.fits') if arguments[0] != '--bundlesize'
                                  else ('extract', *INPUTS, *arguments, '-o', 'out/frame.fits'))
        self.assert_fails(2, '--input', arguments=('extract', '-p', 'psf.fits', '-o', 'out/frame.fits'))
        self.assert_fails(2, '--psf', arguments=('extract', '-i', 'preproc.fits', '-o', 'out/frame.fits'))
        self.assert_fails(2, '--output', arguments=('extract', '-i', 'preproc.fits', '-p', 'psf.fits'))
        self.assert_fails(2, 'stray', arguments=self.extract('stray'))
        self.assert_fails(2, '--trace', arguments=(*self.extract(), '--trace'))
        self.assert_fails(2, arguments=('extract',))
        self.assert_fails(2, arguments=())

    def test_nonsense_patches(self):
        for word, arguments in (('--fiber', ('--fiber', 1)), ('--wave', ('--wave', 6330)), ('--xy', ('--fiber', 1, '--wave', 6330, '--xy', '20,100')),
                                ('--fiber', ('--fiber', 2, '--wave', 6330)), ('--fiber', ('--fiber', -1, '--wave', 6330)), ('--wave', ('--fiber', 1, '--wave', 7000)),
                                ('--wave', ('--fiber', 1, '--wave', 'nan')), ('--fiber', ('--fiber', 'one', '--wave', 6330)), ('--xy', ('--xy', '20')),
                                ('--xy', ('--xy', 'a,b')), ('--xy', ('--xy', '-5,100')), ('--xy', ('--xy', '20,1e9')), ('--xy', ('--xy', 'nan,100')),
                                ('--xy', ('--xy', '20,290'))):
            with self.subTest(arguments=arguments):
                self.assert_fails(2, word, arguments=self.patch(*arguments))
        self.assert_fails(2, '--fiber', '--xy', arguments=('patch', *QUICK, '-o', 'out/patch.fits'))

    def test_unwritable(self):
        os.makedirs('folder.fits', exist_ok=True)
        for name in ('psf.fits/below', 'no/such/folder/frame.fits', 'folder.fits', 'folder.fits/', '/dev/null', ''):
            with self.subTest(name=name):
                self.assert_fails(1, name, 'cannot be written', arguments=self.extract(output=name))
                self.assert_fails(1, name, 'cannot be written', arguments=self.patch(output=name))
                if name:
                    for option in ('-m', '--trace'):
                        self.assert_fails(1, name, 'cannot be written', arguments=self.extract(option, name))
        if os.geteuid() == 0:
            return  # who may write everywhere
        os.makedirs('readonly', exist_ok=True)
        os.chmod('readonly', 0o555)
        self.assert_fails(1, 'readonly/frame.fits', 'cannot be written', arguments=self.extract(output='readonly/frame.fits'))

    def test_outputs_spare_inputs(self):
        files = ('preproc.fits', 'psf.fits', 'map.fits', 'packed.fits.gz')
        shutil.copy('preproc.fits', 'map.fits')
        with open('packed.fits.gz', 'wb') as f:
            f.write(gzip.compress(content('preproc.fits'), 1))
        if not os.path.lexists('link.fits'):
            os.symlink('preproc.fits', 'link.fits')
        before = [content(file) for file in files]
        for words, command in (
                (('--output', '--input'), self.extract(output='preproc.fits')), (('--output', '--input'), self.extract(output='./out/../preproc.fits')),
                (('--output', '--input'), self.extract(output=os.path.abspath('preproc.fits'))), (('--output', '--input'), self.extract(output='link.fits')),
                (('--output', '--input'), self.extract(image='link.fits', output='preproc.fits')),
                (('--output', '--input'), self.extract(image='packed.fits', output='packed.fits.gz')), (('--output', '--psf'), self.extract(output='psf.fits')),
                (('--output', '--fibermap'), self.extract('-f', 'map.fits', output='map.fits')), (('--model', '--input'), self.extract('-m', 'preproc.fits')),
                (('--trace', '--psf'), self.extract('--trace', 'psf.fits')), (('--model', '--output'), self.extract('-m', 'out/frame.fits')),
                (('--trace', '--model'), self.extract('-m', 'out/x', '--trace', 'out/./x')), (('--output', '--input'), self.patch(output='preproc.fits')),
                (('--output', '--psf'), self.patch(output='psf.fits'))):
            with self.subTest(command=command):
                self.assert_fails(2, *words, arguments=command)
                self.assertEqual([content(file) for file in files], before)

    def test_full_disk(self):
        def limit(size):
            def apply():
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            return apply
        whole = ('extract', *WHOLE, '-o', 'out/frame.fits', '-m', 'out/model.fits')
        self.must(*whole)
        frame, model = os.path.getsize('out/frame.fits'), os.path.getsize('out/model.fits')
        self.setUp()
        for size in (0, 3000, frame - 2880):
            self.assert_fails(1, 'out/frame.fits', 'File too large', arguments=whole, before=limit(size))
        self.assertGreater(model, frame + 2880)  # else the one below stops at the frame
        self.assert_fails(1, 'out/model.fits', 'File too large', arguments=whole, before=limit(frame + 2880), left=('frame.fits',))
        self.assertEqual(len(by_name('out/frame.fits')), 8)
        self.setUp()
        self.assert_fails(1, 'out/patch.fits', 'File too large', arguments=self.patch(), before=limit(20000))

    def test_full_file_system(self):
        if os.geteuid() != 0 or not shutil.which('mount'):
            self.skipTest('a file system can be mounted by root only')
        os.makedirs('disk', exist_ok=True)
        if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'none', 'disk'], capture_output=True).returncode:
            self.skipTest('no file system can be mounted here')
        try:
            self.assert_fails(1, 'disk/frame.fits', 'No space left', arguments=('extract', *WHOLE, '-o', 'disk/frame.fits'))
            self.assertEqual(os.listdir('disk'), [])
        finally:
            subprocess.run(['umount', 'disk'], check=True)

    def test_memory(self):
        if sanitized():
            self.skipTest('a sanitizer needs more address space than any limit')
        # An image that the file's size justifies (a sparse file) and the memory does not hold.
        side = 24000
        header = image_hdu('IMAGE', (side, side), [], -32, primary=True).bytes()
        with open('huge.fits', 'wb') as f:
            f.write(header)
            f.truncate(len(header) + -(-4 * side * side // 2880) * 2880)
            f.seek(0, os.SEEK_END)
            second = image_hdu('IVAR', (side, side), [], -32).bytes()
            f.write(second)
            f.truncate(f.tell() + -(-4 * side * side // 2880) * 2880)
        def limit(megabytes):
            return lambda: resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
        try:
            self.assert_fails(1, 'huge.fits', 'memory', arguments=self.extract('--threads', 1, image='huge.fits'), before=limit(2000))
        finally:
            os.remove('huge.fits')
        # Too little for the threads' buffers, which OpenBLAS would wait for without end.
        for megabytes in (200, 300, 400):
            self.assert_fails(1, 'memory', '--threads 3', arguments=self.extract('--threads', 3), before=limit(megabytes))


if __name__ == '__main__':
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main()
