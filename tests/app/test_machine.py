"""What is read of a machine, of a made-up one: its files are written into a folder."""

from metst_edge.app import machine


def test_a_jetson_tells_its_mode_clocks_and_temperatures(tmp_path):
    files = {
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\n",
        "proc/loadavg": "0.25 0.10 0.05 1/200 999\n",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
        "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\nX 1\n< POWER_MODEL ID=1 NAME=7W >\n",
        "var/lib/nvpmodel/status": "pmode:0001",
        "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
        "sys/class/devfreq/17000000.gpu/max_freq": "624750000\n",
        "sys/class/devfreq/15480000.nvdec/cur_freq": "1\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "45500\n",
        "sys/class/thermal/thermal_zone1/type": "cv0-thermal\n",
        "sys/class/thermal/thermal_zone1/temp": "-256000\n",
        "sys/class/thermal/thermal_zone2/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone2/temp": "44000\n",
        "sys/class/thermal/thermal_zone3/type": "broken\n",
        "sys/class/thermal/thermal_zone3/temp": "hot\n",
    }
    for core, clock in (0, "1510400"), (10, "729600"):
        files[f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq"] = clock
        files[f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_max_freq"] = "1510400"
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    about = machine.describe(tmp_path)
    assert about["processor"] == about["board"] == "NVIDIA Jetson Orin Nano Developer Kit"
    assert about["l4t"] == "R36.4.3" and about["power mode"] == "7W (1)"
    assert machine.sensors(tmp_path) == {
        "load": 0.25,
        "cpu_mhz": {"cpu0": [1510.4, 1510.4], "cpu10": [729.6, 1510.4]},
        "gpu_mhz": {"17000000.gpu": [306.0, 624.75]},
        "temperature_c": {"cpu-thermal": 45.5, "cpu-thermal 2": 44.0},
    }
    (tmp_path / "etc/nvpmodel.conf").unlink()
    (tmp_path / "var/lib/nvpmodel/status").write_bytes(b"\xff\xfe pmode:0001")
    assert machine.describe(tmp_path)["power mode"] == "1"


def test_a_machine_that_tells_nothing_is_described_all_the_same(tmp_path):
    assert machine.sensors(tmp_path) == {}
    about = machine.describe(tmp_path)
    assert {"processor", "cores", "system", "python", "simd"} == set(about)
    (tmp_path / "proc/cpuinfo").mkdir(parents=True)  # where a file should be
    assert machine.describe(tmp_path) == about
