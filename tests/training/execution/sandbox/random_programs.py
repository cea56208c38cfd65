"""Random programs, for comparing the tiers.

    program = random_program(seed)          # the same for the same seed

Most of what is written is in the dialect of tier 1; about every third program also holds a
construct or two of `EXPRESSIONS` and `STATEMENTS`, which the dialect mostly leaves out.
"""

import random
import textwrap

from training.execution.executor import Program

VARIABLES = "apples price total days cost_per_day result x y n i".split()
FUNCTIONS = "helper double simple_math_problem".split()
ARITHMETIC = "+ - * / // % **".split()
COMPARISONS = "== != < <= > >=".split()
BUILTINS = "abs float int round min max sum len print range list isinstance sorted str".split()

SMALL = "0 1 2 3 4 5 7 10 12 24 60 100 365 1000 0.5 0.25 0.1 1.5 2.75 19.99 1_000".split()
ODD = (
    "-1 -3 -0.0 0.0 True False None 0x1F 1e3 1e16 1e22 5e-324 1e308 1e400 9007199254740993 "
    "123456789123456789 9223372036854775807 -9223372036854775808 18446744073709551616 "
    "0.30000000000000004 2.675 1234567.891 (10**40) (2**64+1) (-8)"
).split()

MATH = (
    "ceil floor ceil floor sqrt sqrt trunc fabs isqrt exp log log2 log10 sin cos tan radians "
    "degrees"
).split()
MATH_OF_TWO = "pow log hypot gcd".split()
MATH_OF_INTEGERS = "gcd lcm comb perm pow".split()

EXPRESSIONS = """\
round({e}, 2)
sum({e} for _ in range(3))
sum([{e} for _ in range(3)])
sum([{e}], {e})
sum([[1], [2]], [])[0]
sum([0.1] * 10)
sum((n := k) for k in [1, 2])
any(print(k) for k in [1, 0, 3])
max([{e}, {e}], key=abs)
max({e}, {e}, default=3)
max([], default={e})
min(enumerate([{e}]))[0]
len([{e}, {e}])
len('abc')
len(f'{{{e}:.2f}}')
float(f'{{{e}:.3f}}')
float(f'{{{e}}}')
float(str({e}))
int('12')
int('1_0 ')
float('nan')
float('inf')
'abc'.find('', 100)
'b' in 'abc'
'a' < 'B'
'%d' % {e}
'%.2f' % ({e})
'{{}}'.format({e})
'ab' * 2
'text'
[{e}, {e}][0]
({e}, {e})[1]
[{e}, {e}]
({e}, {e})
({e},) * 2
{{1: {e}}}[1]
len({{{e}: 1, {e}: 2}})
len({{{e}, {e}}})
dict(a={e})['a']
({e} in [{e}, {e}])
({e} in ({e}, float('nan')))
([{e}] == [{e}])
(({e}, 1) < ({e}, 2))
({e} is 1000)
({e} is True)
({e} is not {e})
({e} is None)
(lambda: {e})()
(lambda k=2: k + {e})()
any([{e}])
all(({e}, 0))
sorted([{e}, {e}])[0]
divmod({e}, 3)[0]
pow({e}, 2)
pow(3, 2, 5)
abs(*[{e}])
list(range(3))[1]
[*range(3)][1]
range(5)[2]
len(list(zip([1], [2])))
sum(map(int, '12'))
next(iter([{e}]))
isinstance({e}, int)
hash({e})
type({e})
print({e})
({e}).real
~int({e})
int({e}) & 3 | 1 ^ 2 << 1 >> 1
({e}) @ 2
math.prod([{e}])
math.fsum([{e}, 0.1])
math.inf
math.nan
m.ceil({e})
math.factorial({e})
math.factorial(int({e}) % 30)
__name__ == '__main__'
f'{{{e}}}' == '1'
2j
b'a'[0]
...
helper
abs
math
helper({e})
helper(k={e})
double({e}, {e})
double(j={e}, k={e})
double(*[1, 2])
double(**{{'k': 2}})
missing""".split("\n")
"""With `{e}` for a number."""

STATEMENTS = """\
{v}: int
{v}: float = {e}
{v}: Missing = {e}
{v}: int[0] = {e}
del {v}
global {v}
nonlocal {v}
sum = {e}
list = [1]
max = min
int = float
len = 3
math = 3
helper = 3
def print(k): return 1
def abs(k): return {e}
def helper(k): return {e}
helper = lambda k: {e}
double = lambda k=2: 2 * k
if {e}:\\n    def helper(): return {e}
for k in range(2):\\n    def helper(): return {e}
def inner(k=1):\\n    return k + {e}\\n{v} = inner()
def inner(): return {v}\\n{v} = {e}\\n{v} = inner()
if {e}:\\n    import math
import random
import math as m
from math import *
from math import ceil as helper
from math import ceil, sqrt
try:\\n    {v} = {e}\\nexcept Exception:\\n    {v} = 2
class A:\\n    k = {e}\\n{v} = A.k
raise ValueError
assert {e}, 'no'
assert {e}, {e}
{v}, {v} = {e}, {e}
{v}, y = y, {v}
({v}, [y]) = ({e}, ({e},))
*{v}, = [1, 2]
{v}, y = {e}
x = y = {v} = {e}
{v}[0] = 1
{v}.k = 1
({v} := {e})
print({e}, file=None)
print({e}, sep=None)
print({e}, {e}, sep=',')
print('total', {e}, end='\\\\n')
print({e}, end='')
print({e}, flush=True)
print(*[1, 2])
print(f'{{{e}}}')
print(f'{{{e}}} and {{{e}!r}} {{{e}:>10}}')
print(f'{{{e}:.2f}}')
print('$' + str({e}))
print("a", f"{{{e}}}%")
print('{{:,.2f}}'.format({e}))
print([{e}], ({e},))
print('x' * 3)
print('\\u00e9\\u2028', 5)
print('a\\x0c5')
print(1,\\n      2)
s = 'text'\\nprint(s)
{v} = [{e}, {e}]\\n{v} = {v}[0]
{v} = [{e}]\\n{v}.append({v})\\nprint({v})
xs = [1, 2]\\nfor k, z in enumerate(xs):\\n    xs.append(z)\\n    if k > 3: break\\n{v} = k
xs = [1, 2]\\nfor k in zip(xs, xs):\\n    xs.append(3)\\n    if len(xs) > 9: break\\n{v} = len(xs)
xs = [1, 2]\\nfor k in reversed(xs):\\n    xs[0] = 7\\n    {v} = k
xs = [1, 2]\\nfor k in xs:\\n    if len(xs) < 9: xs.append(k)\\n{v} = len(xs)
total = 0\\nfor k in (y + total for y in [1, 2, 3]): total += k\\n{v} = total
d = {{}}\\nd[1:2] = 0\\n{v} = len(d)
d = {{'a': {e}}}\\nfor k, z in d.items(): {v} = z
for k in [{e}, {e}]:\\n    {v} = k
for k in {e}, {e}:\\n    {v} += k
for k in 'ab':\\n    {v} = 1
for k, z in [(1, 2)]:\\n    {v} = z
for k in range({e}):\\n    {v} += 1\\n    if {v} > 50: break
match {e}:\\n    case 1: {v} = 5
with open('/x'): pass
if {e}: {v} = 1; y = 2
return
return {e}, {e}
return None
return print({e})
{v} = {e}; y = {e}
{v} = \\\\\\n    {e}
{v} = ({e} +\\n    {e})
{v} = {e},
{v} = 1,000
\u0430 = {e}\\n{v} = \u0430
\ufb01 = {e}\\nfi = 2\\n{v} = \ufb01
# caf\u00e9 \u00bd""".split("\n")
"""With `{v}` for a variable as well, and `\\n` between lines."""


def random_program(seed: int) -> Program:
    """A program whose result is asked for in one of the three ways."""
    return Writer(random.Random(seed)).program()


class Writer:
    """Writes one program, or a statement or expression for another."""

    def __init__(self, source: random.Random) -> None:
        self._random = source
        self.known: list[str] = []
        """Variables that hold a number by now, in most cases."""
        self.strange = source.choice([0.0, 0.0, 0.0, 0.0, 0.02])
        """How likely an expression or statement is one of the lists above."""
        self._has_math = self._has_helpers = False

    def program(self) -> Program:
        chance = self._random.random()
        if chance < 0.2:
            return self._script()
        parts: list[str] = []
        if chance < 0.6:
            parts = [self._import(), *(self._helper(name) for name in FUNCTIONS[:2])]
            if self._random.random() < 0.1:
                self._random.shuffle(parts)
        self._has_math = self._has_helpers = chance < 0.6
        self.known = []
        if self._random.random() < 0.1:
            parts.append(self._givens())
        body = self._givens() + self._block(self._random.randint(1, 8))
        if self._random.random() < 0.5:
            body = '"""How much\n    is \u20ac 5?"""\n' + body
        body += f"\nreturn {self._random.choice([self._read(), self.expression(2)])}"
        main = "simple_math_problem" if self._random.random() < 0.9 else "main"
        annotation = self._random.choice(["", " -> int", " -> float", " -> None", " -> 'X'"])
        parts.append(f"def {main}(){annotation}:\n" + textwrap.indent(body, "    "))
        if self._random.random() < 0.1:
            parts.append(f"print({main}())")
        kind = "func:simple_math_problem"
        if self._random.random() < 0.1:
            kind = self._random.choice(["stdout-last", f"func:{self._name()}", "func:missing"])
        return Program(code="\n".join(parts), kind=kind)

    def _script(self) -> Program:
        code = self._import() + "\n" + self._givens()
        self._has_math = True
        code += self._block(self._random.randint(1, 10))
        value = self._random.choice([self._read(), self.expression(2)])
        shown = ["{v}", "f'${{{v}}}'", "f'{{{v}}}%'", "'$', {v}", "f'{{{v}}}5'", "f'1{{{v}}}'"]
        code += f"\nprint({self._random.choice(shown * 2 + shown[:1] * 20).format(v=value)})"
        names = [self._name(), *self.known[-2:], *self.known[-2:], "len"]
        kind = self._random.choice(["stdout-last"] * 2 + [f"var:{self._random.choice(names)}"])
        return Program(code=code, kind=kind)

    def _import(self) -> str:
        names = ", ".join(self._random.sample(MATH, 2))
        return self._random.choice(["import math"] * 4 + [f"from math import {names}, pi"])

    def _helper(self, name: str) -> str:
        first = self._random.choice(["k", "k=2", "k=2", "k: int = 2"])
        header = f"def {name}({first}, j={self._random.choice(SMALL)}):\n"
        self.known = ["k", "j"]
        body = self._block(self._random.randint(0, 3)) + f"\nreturn {self.expression(2)}"
        return header + textwrap.indent(body.lstrip("\n"), "    ")

    def _name(self) -> str:
        return self._random.choice([*VARIABLES, *FUNCTIONS, *BUILTINS, "__name__", "math", "k"])

    def _variable(self) -> str:
        name = self._random.choice(VARIABLES)
        self.known.append(name)
        return name

    def _read(self) -> str:
        if self.known and self._random.random() < 0.998:
            return self._random.choice(self.known[-6:])
        return self._random.choice(VARIABLES)

    def _givens(self) -> str:
        """A few variables with plain numbers, as word problems have them."""
        names = self._random.sample(VARIABLES, self._random.randint(1, 5))
        self.known += names
        return "".join(f"{name} = {self._random.choice(SMALL)}\n" for name in names)

    def _block(self, num_statements: int) -> str:
        return "\n".join(self.statement() for _ in range(num_statements))

    def statement(self, depth: int = 2) -> str:
        """One statement, of several lines where `depth` allows."""
        draw = self._random
        if draw.random() < self.strange * 2:
            template = draw.choice(STATEMENTS).replace("\\n", "\n").replace("\\\n", "\\n")
            return self._fill(template)
        chance = draw.random()
        if chance < 0.6 or depth == 0:
            value = self.expression(draw.randint(0, 3))
            return f"{self._variable()} = {value}"
        if chance < 0.7:
            return f"{self._read()} {draw.choice(ARITHMETIC[:6])}= {self.expression(1)}"
        if chance < 0.75:
            return f"print({self.expression(1)}, {self._read()})"
        known = list(self.known)
        inner = "\n".join(self.statement(depth - 1) for _ in range(draw.randint(1, 3)))
        inner = textwrap.indent(inner, "    ")
        leave = f"\n    if {self.condition()}: {draw.choice(['break', 'continue', 'pass'])}"
        if draw.random() < 0.99:
            self.known = known  # what a branch binds may be unbound after it
        end = f"\nelse:\n    {self._read()} = {self.expression(1)}" if draw.random() < 0.3 else ""
        if chance < 0.85:
            return f"if {self.condition()}:\n{inner}{end}"
        if chance < 0.95:
            span = draw.choice(["5", "1, 4", "10, 0, -3", "0", f"int({self._read()}) % 5"])
            return f"for i in range({span}):\n{inner}{leave}{end}"
        left = f"left_{depth}"
        header = f"{left} = {draw.randint(0, 5)}\nwhile {left} > 0:\n    {left} -= 1"
        return f"{header}\n{inner}{leave}{end}"

    def condition(self) -> str:
        """A comparison, or a few joined."""
        text = f"{self.expression(1)} {self._random.choice(COMPARISONS)} {self.expression(1)}"
        chance = self._random.random()
        if chance < 0.1:
            return f"{text} {self._random.choice(COMPARISONS)} {self.expression(0)}"
        if chance < 0.2:
            return f"{text} {self._random.choice(['and', 'or'])} not {self.condition()}"
        return text

    def expression(self, depth: int) -> str:
        """An expression, mostly of a number; in parentheses where it needs them."""
        draw = self._random
        if draw.random() < self.strange:
            return self._fill(draw.choice(EXPRESSIONS))
        chance = draw.random()
        if depth == 0 or chance < 0.15:
            if draw.random() < 0.55 and self.known:
                return self._read()
            return draw.choice(SMALL if draw.random() < 0.9 else ODD)
        one, two = self.expression(depth - 1), self.expression(depth - 1)
        if chance < 0.7:
            operator = draw.choice(ARITHMETIC[:3] * 4 + ARITHMETIC)
            if operator == "**":  # larger exponents end in a limit, which tier 1 leaves alone
                two = draw.choice(["2", "2", "2", "3", "0.5", "-1", "0", "12", "(1 / 3)", "(-2.5)"])
            if operator in ("/", "//", "%") and draw.random() < 0.8:
                two = draw.choice(SMALL[1:])
            return f"({one} {operator} {two})"
        if chance < 0.82:
            return f"{draw.choice(['abs', 'float', 'int', 'round', 'int', 'round'])}({one})"
        if chance < 0.87:
            arguments = draw.choice([f"{one}, {two}", f"[{one}, {two}]", f"({one}, {two}, 1)"])
            name = draw.choice(["min", "max", "sum"] if arguments[0] in "[(" else ["min", "max"])
            return f"{name}({arguments})"
        if chance < 0.92 and self._has_math:
            if draw.random() < 0.6:
                return f"math.{draw.choice(MATH)}({one})"
            if draw.random() < 0.6:
                one, two = f"int({one} % 40)", f"int({two} % 9)"
                return f"math.{draw.choice(MATH_OF_INTEGERS)}({one}, {two})"
            return draw.choice([f"math.{draw.choice(MATH_OF_TWO)}({one}, {two})", "math.pi"])
        if chance < 0.95:
            return f"({one} if {self.condition()} else {two})"
        if chance < 0.97 and self._has_helpers:
            return draw.choice(
                [f"helper({one})", f"double({one}, {two})", f"helper({one}, j={two})"]
            )
        return draw.choice([f"(-{one})", f"(+{one})", f"(not {one})", f"({one} or {two})"])

    def _fill(self, template: str) -> str:
        text = template.replace("{{", "\0").replace("}}", "\1")
        while "{v}" in text:
            text = text.replace("{v}", self._variable())
        while "{e}" in text:
            text = text.replace("{e}", self.expression(1), 1)
        return text.replace("\0", "{").replace("\1", "}")
