#!/usr/bin/env python3
"""Runs scripts of `patchlight slurm` under a real Slurm: munged, slurmctld and slurmd of this one machine, in a folder of their own and on ports of
their own, so that a Slurm that is installed is left alone. Standard library only.

usage: test_slurm.py PATH/TO/patchlight

Skipped (77) where slurmctld, slurmd, munge or mpirun are missing, or without root; PATCHLIGHT_REQUIRE_SLURM=1 turns that into a failure.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

FRAMES = 5
GRID = ('--bundlesize', '5', '-w', '6253,6407,0.8')
NEEDED = ('munged', 'slurmctld', 'slurmd', 'sbatch', 'srun', 'mpirun')


def free_port():
    with socket.socket() as s:
        s.bind(('', 0))
        return s.getsockname()[1]


def content(path):
    with open(path, 'rb') as f:
        return f.read()


class Cluster:
    """One node that claims to have four processors and two GPUs."""

    def __init__(self, folder):
        self.folder = folder
        self.host = socket.gethostname().split('.')[0]
        self.processes = []
        os.chmod(folder, 0o755)
        for name in ('state', 'spool'):
            os.mkdir(f'{folder}/{name}')
        os.mkdir(f'{folder}/munge', 0o700)
        os.chown(f'{folder}/munge', 0, 0)
        with open(f'{folder}/munge/key', 'wb') as f:
            f.write(os.urandom(1024))
        os.chmod(f'{folder}/munge/key', 0o600)
        self.socket = f'{folder}/munge.socket'
        with open(f'{folder}/slurm.conf', 'w', encoding='ascii') as f:
            f.write(f'''ClusterName=test
SlurmctldHost={self.host}(127.0.0.1)
AuthInfo=socket={self.socket}
SlurmUser=root
SlurmdUser=root
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SlurmdParameters=config_overrides
MpiDefault=none
GresTypes=gpu
ReturnToService=2
KillWait=5
NodeName={self.host} NodeAddr=127.0.0.1 CPUs=4 Gres=gpu:2 State=UNKNOWN
PartitionName=test Nodes={self.host} Default=YES MaxTime=INFINITE State=UP
''')
        with open(f'{folder}/gres.conf', 'w', encoding='ascii') as f:
            f.write('Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n')  # Slurm wants a device to each
        # Not what a user may have set; the fake MPS daemon first in the path.
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(('SLURM', 'OMPI', 'PMI'))}
        self.environment.update(SLURM_CONF=f'{folder}/slurm.conf', OMPI_ALLOW_RUN_AS_ROOT='1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM='1', LC_ALL='C.UTF-8',
                                PATH=f'{folder}/bin:' + os.environ['PATH'])

    def start(self, *command):
        log = open(f'{self.folder}/{os.path.basename(command[0])}.out', 'wb')  # lives as long as the daemon
        self.processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=self.environment, start_new_session=True))

    def run(self, *command, timeout=60):
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=timeout)
        return done.returncode, done.stdout, done.stderr

    def up(self):
        munge = f'{self.folder}/munge'
        self.start('munged', '--foreground', '--force', f'--key-file={munge}/key', f'--socket={self.socket}', f'--pid-file={munge}/pid',
                   f'--log-file={munge}/log', f'--seed-file={munge}/seed')
        self.wait(lambda: os.path.exists(self.socket), 'munged')
        self.start('slurmctld', '-D', '-c')
        self.wait(lambda: self.run('scontrol', 'ping')[1].count('is UP') > 0, 'slurmctld')
        self.start('slurmd', '-D')
        self.wait(lambda: self.run('sinfo', '-h', '-o', '%t')[1].strip() == 'idle', 'slurmd')

    def wait(self, ready, what, seconds=60):
        end = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > end or any(process.poll() is not None for process in self.processes):
                self.explain()
                raise SystemExit(f'{what} does not come up')
            time.sleep(0.2)

    def explain(self):
        for name in ('munged.out', 'slurmctld.out', 'slurmctld.log', 'slurmd.out', 'slurmd.log'):
            path = f'{self.folder}/{name}'
            if os.path.exists(path):
                with open(path, encoding='utf-8', errors='replace') as f:
                    print(f'--- {name}\n' + ''.join(f.readlines()[-30:]))

    def down(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)


FAKE_MPS = '''#!/bin/bash
# Stands in for NVIDIA's: -f runs until it is told to quit.
if [ "${1:-}" = -f ]; then
    echo "started on $(hostname -s)" >> "$MPS_LOG"
    touch "$CUDA_MPS_PIPE_DIRECTORY/control"
    while [ -e "$CUDA_MPS_PIPE_DIRECTORY/control" ]; do sleep 0.1; done
    echo "stopped on $(hostname -s)" >> "$MPS_LOG"
else
    read -r word
    [ "$word" = quit ] && rm "$CUDA_MPS_PIPE_DIRECTORY/control"
fi
'''


class Test:
    def __init__(self, program, cluster):
        self.program, self.cluster = program, cluster

    def must(self, *command, timeout=120):
        code, out, err = self.cluster.run(*command, timeout=timeout)
        if code:
            self.cluster.explain()
            raise SystemExit(f'{command}: {code}\n{out}\n{err}')
        return out

    def script(self, name, *options, frames='preproc-*.fits', more=()):
        self.must(self.program, 'slurm', '-o', name, '--time', '00:05:00', '--warning', '30', '--log', f'{name}.log', *options, '--', '--images', f'./{frames}', '-p', './psf.fits', '-o',
                  'out/frame-{expid}.fits', *GRID, '--report', f'{name}.json', '--backend', 'cpu', *more)

    def job(self, name, code=0):
        got, out, err = self.cluster.run('sbatch', '--wait', name, timeout=170)
        log = ''
        if os.path.exists(f'{name}.log'):
            with open(f'{name}.log', encoding='utf-8', errors='replace') as f:
                log = f.read()
        if got != code:
            self.cluster.explain()
            raise SystemExit(f'{name}: exit code {got}, {code} expected\n{out}{err}\n--- the job\n{log}')
        return log

    def report(self, name):
        with open(f'{name}.json', encoding='utf-8') as f:
            return json.load(f)

    def same(self):
        for i in range(FRAMES):
            assert content(f'out/frame-{i:08d}.fits') == content(f'single-{i}.fits'), i

    def run(self):
        for i in range(FRAMES):
            self.must(self.program, 'simulate', '--preset', 'small', '--plain-mask', '--seed', str(i + 1), '-o', f'preproc-r0-{i:08d}.fits', '--out-psf', 'psf.fits')
            self.must(self.program, 'extract', '-i', f'./preproc-r0-{i:08d}.fits', '-p', './psf.fits', *GRID, '--backend', 'cpu', '-o', f'single-{i}.fits')
        kinds = self.must('srun', '--mpi=list')
        launchers = [('mpirun', ('--launcher', 'mpirun'))]
        if 'pmix' in kinds:
            launchers.append(('srun', ('--launcher', 'srun', '--srun-mpi', 'pmix')))
        else:
            print('srun has no pmix here: OpenMPI is tried with mpirun only')
        for name, options in launchers:
            shutil.rmtree('out', ignore_errors=True)
            self.script(f'{name}.sh', *options, '--ranks-per-node', '3', '--setup', 'echo set up')
            start = time.monotonic()
            log = self.job(f'{name}.sh')
            assert 'set up' in log, log
            report = self.report(f'{name}.sh')
            assert (report['totals']['done'], report['machine']['ranks']) == (FRAMES, 3), report['totals']
            self.same()
            # The same job again: nothing left to do.
            self.job(f'{name}.sh')
            assert self.report(f'{name}.sh')['totals']['complete'] == FRAMES
            print(f'{name}: two jobs in {time.monotonic() - start:.1f} s')
        # A frame that fails is the job's exit code.
        shutil.copy('preproc-r0-00000000.fits', 'damaged-r0-00000000.fits')
        os.truncate('damaged-r0-00000000.fits', 300000)
        self.script('fails.sh', '--launcher', 'mpirun', '--ranks-per-node', '2', frames='damaged-*.fits', more=('--redo',))
        log = self.job('fails.sh', 1)
        assert 'damaged-r0-00000000.fits' in log, log
        # Ranks that share GPUs: MPS is started once and stopped.
        self.cluster.environment['MPS_LOG'] = os.path.abspath('mps.log')
        self.script('mps.sh', '--launcher', 'mpirun', '--ranks-per-node', '4', '--gpus-per-node', '2')
        self.job('mps.sh')
        with open('mps.log', encoding='utf-8') as f:
            lines = f.read().splitlines()
        assert [line.split()[0] for line in lines] == ['started', 'stopped'], lines
        self.warned()
        # srun without a protocol that this MPI knows starts ranks that do not see each other: an error, not the same work three times.
        code, _, err = self.cluster.run('srun', '--mpi=none', '-n', '3', self.program, 'batch', '--images', './preproc-*.fits', '-p', './psf.fits', '-o', 'x/{expid}.fits')
        assert code != 0, err
        assert not os.path.exists('x')

    def warned(self):
        """Slurm's warning before the end: what is under way ends, the rest is left for the next job."""
        rows = [f'./preproc-r0-{i % FRAMES:08d}.fits,./psf.fits,long/frame-{i}.fits' for i in range(1000)]
        with open('long.csv', 'w', encoding='ascii') as f:
            f.write('\n'.join(['image,psf,output', *rows]) + '\n')
        self.must(self.program, 'slurm', '-o', 'long.sh', '--time', '00:05:00', '--warning', '30', '--log', 'long.sh.log', '--launcher', 'mpirun', '--ranks-per-node', '2', '--', '--manifest',
                  'long.csv', *GRID, '--report', 'long.sh.json', '--backend', 'cpu')
        job = self.must('sbatch', '--parsable', 'long.sh').strip()
        end = time.monotonic() + 60
        while not os.path.isdir('long') and time.monotonic() < end:
            time.sleep(0.1)
        self.must('scancel', '--batch', '--signal=USR1', job)
        while self.must('squeue', '-h', '-j', job, '-t', 'all', '-o', '%T').strip() in ('RUNNING', 'COMPLETING', 'PENDING') and time.monotonic() < end:
            time.sleep(0.2)
        totals = self.report('long.sh')['totals']
        assert totals['failed'] == 0 and totals['done'] > 0 and totals['cancelled'] > 0, totals
        assert totals['done'] + totals['cancelled'] == 1000, totals
        assert len([name for name in os.listdir('long') if name.endswith('.fits')]) == totals['done']
        assert not [name for name in os.listdir('long') if name.endswith('.tmp')]
        print(f'warned: {totals["done"]} frames done, {totals["cancelled"]} left for the next job')


def main():
    program = os.path.abspath(sys.argv[1])
    os.environ['PATH'] += ':/usr/sbin:/sbin'  # the daemons' place
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        print('skipped: ' + (f'not installed: {", ".join(missing)}' if missing else 'needs root'))
        return 1 if os.environ.get('PATCHLIGHT_REQUIRE_SLURM') == '1' else 77
    start = time.monotonic()
    folder = tempfile.mkdtemp(prefix='patchlight-slurm-')
    cluster = Cluster(folder)
    os.mkdir(f'{folder}/bin')
    with open(f'{folder}/bin/nvidia-cuda-mps-control', 'w', encoding='ascii') as f:
        f.write(FAKE_MPS)
    os.chmod(f'{folder}/bin/nvidia-cuda-mps-control', 0o755)
    os.mkdir(f'{folder}/work')
    os.chdir(f'{folder}/work')
    try:
        cluster.up()
        Test(program, cluster).run()
    finally:
        cluster.down()
        os.chdir('/')
        shutil.rmtree(folder, ignore_errors=True)
    print(f'all as expected, in {time.monotonic() - start:.0f} s')
    return 0


if __name__ == '__main__':
    sys.exit(main())
