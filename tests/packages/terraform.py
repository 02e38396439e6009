"""Says what is amiss with deploy/terraform as far as a reader of HCL can tell, and prints the user data of an agent.

Terraform itself, which no package registry has, would say more: nothing here knows the schema of the provider.
"""

import pathlib
import re
import sys

import hcl2

module = pathlib.Path(sys.argv[1])
amiss = []


def plain(value):
    """The text of `value` without the quotes that newer versions of the reader keep."""
    return value[1:-1] if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"' else value


declared = {"var": set(), "local": set(), "data": set(), "resource": set()}
regional = []
text = ""
for path in sorted(module.glob("*.tf")):
    source = path.read_text()
    text += source
    tree = hcl2.loads(source)
    for block in tree.get("variable", []):
        for name, body in block.items():
            declared["var"].add(plain(name))
            if "description" not in body or "type" not in body:
                amiss.append(f"{path.name}: variable {name} has no description or no type")
    for block in tree.get("locals", []):
        declared["local"].update(plain(name) for name in block if not name.startswith("__"))
    for kind in ("data", "resource"):
        for block in tree.get(kind, []):
            for type_, named in block.items():
                for name, body in named.items():
                    if name.startswith("__"):
                        continue
                    declared[kind].add(f"{plain(type_)}.{plain(name)}")
                    regional.append((f"{plain(type_)}.{plain(name)}", body))

code = re.sub(r"#.*", "", text)
for name in set(re.findall(r"\bvar\.(\w+)", code)) - declared["var"]:
    amiss.append(f"var.{name} is not declared")
for name in declared["var"] - set(re.findall(r"\bvar\.(\w+)", code)):
    amiss.append(f"var.{name} is not used")
for name in set(re.findall(r"\blocal\.(\w+)", code)) - declared["local"]:
    amiss.append(f"local.{name} is not declared")
for name in set(re.findall(r"\bdata\.(\w+\.\w+)", code)) - declared["data"]:
    amiss.append(f"data.{name} is not declared")
for name in set(re.findall(r"(?<!data\.)\b(aws_\w+\.\w+)\b", code)) - declared["resource"]:
    amiss.append(f"{name} is not declared")
# What has no region is made in the provider's, whatever the list says.
for name, body in regional:
    if "region" not in body or "for_each" not in body:
        amiss.append(f"{name} is not made in each region of the list")

template = (module / "agent.yaml.tftpl").read_text()
call = re.search(r'templatefile\("[^"]*agent\.yaml\.tftpl", \{(.*?)\n  \}\)', code, re.S)
given = set(re.findall(r"^\s+(\w+)\s+=", call[1], re.M)) if call else set()
wanted = set(re.findall(r"\$\{(\w+)\}", template))
if given != wanted:
    amiss.append(f"the template wants {sorted(wanted)} and is given {sorted(given)}")

for line in amiss:
    print(line, file=sys.stderr)
values = {
    "node": "eu-west-1-0",
    "collector": "https://collector.example.net:8610",
    "token": "a-token-of-a-test",
    "url": "https://packages.example.net/aviary_0.1.0-1_arm64.deb",
    "sha256": "0" * 64,
}
print(re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], template), end="")
sys.exit(bool(amiss))
