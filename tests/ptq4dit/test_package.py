import subprocess
import sys

import ptq4dit


def test_importing_the_package_waits_for_nothing_heavy():
    code = (
        "import sys, ptq4dit; ptq4dit.QuantConfig(); ptq4dit.CalibrationConfig();"
        "heavy = {'torch', 'diffusers', 'numpy', 'gradio'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_resolves():
    for name in ptq4dit.__all__:
        assert getattr(ptq4dit, name) is not None
        assert name in dir(ptq4dit)


def test_unknown_names_are_attribute_errors():
    assert not hasattr(ptq4dit, "no_such_name")
