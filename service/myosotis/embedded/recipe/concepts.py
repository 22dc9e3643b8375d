"""What Petal can draw: concepts, the icons they come from, and the styles."""

from dataclasses import dataclass

STYLES = ("twemoji", "noto", "fluent", "ink")
"""Petal's styles; each is the name of a source of icons."""

GROUPS = ("character", "harmful", "animal", "food", "vehicle", "object")

COLORS = {
    "red": (226, 72, 72),
    "orange": (250, 160, 70),
    "yellow": (250, 222, 90),
    "green": (110, 200, 110),
    "teal": (70, 190, 190),
    "blue": (90, 150, 235),
    "purple": (160, 110, 220),
    "pink": (250, 170, 200),
    "brown": (150, 105, 70),
    "gray": (185, 185, 185),
}
"""Backgrounds that a prompt can ask for, as RGB."""

# One concept an entry: phrase with its article, then `=icon` where the icon is named
# otherwise, then synonyms after bars.
_TABLE = """
character: santa claus=santa-claus|santa|father christmas; a ninja|a shinobi;
 a vampire=man-vampire|dracula; a zombie=man-zombie|an undead man;
 a wizard=man-mage|a sorcerer|a mage; a superhero=man-superhero|a hero in a cape;
 a princess|a young queen; a police officer=man-police-officer|a policeman|a cop;
 a detective|a private eye|a spy; a chef=man-cook|a cook; a clown=clown-face|a jester;
 a cowboy=cowboy-hat-face|a face with a cowboy hat; a ghost|a phantom|a spook;
 an alien|an extraterrestrial; a space invader=alien-monster|a pixel monster;
 a robot|an android; a devil=smiling-face-with-horns|a demon|satan;
 an angel=baby-angel|a cherub; a royal guard=guard|a guardsman; an ogre|an oni;
 a goblin|a tengu; a nerd=nerd-face|a geek; a graduate=man-student|a student;
 a villain=man-supervillain|a supervillain;
 a stone head=moai|a moai|an easter island head; a rock singer=man-singer|a pop star;
 a dancer=woman-dancing|a dancing woman; a snowman;
 a firefighter=man-firefighter|a fireman; a baby|an infant
harmful: a dagger|a stiletto; a pistol=water-pistol|a gun|a handgun;
 a bomb|an explosive; a cigarette|a smoke; a syringe|an injection needle;
 a pill|a drug|a capsule; a knife=kitchen-knife|a kitchen knife; an axe|a hatchet;
 crossed swords=crossed-swords|swords; a bow and arrow=bow-and-arrow|an archery bow;
 a coffin|a casket; a skull|a death's head; a beer=beer-mug|a mug of beer;
 a glass of wine=wine-glass|wine|red wine; a drop of blood=drop-of-blood|blood;
 a slot machine=slot-machine|a gambling machine
animal: a dog=dog-face|a puppy; a cat=cat-face|a kitten; a lion; a tiger=tiger-face;
 a bear|a brown bear; a panda; a koala; a rabbit=rabbit-face|a bunny; a fox; a wolf;
 a cow=cow-face; a pig=pig-face|a piglet; a frog|a toad; a monkey=monkey-face|a chimp;
 a unicorn; an elephant; a zebra; a penguin; an owl; a duck|a mallard; a flamingo;
 a whale=spouting-whale; a shark; an octopus; a crab; a turtle|a tortoise;
 a snake|a serpent; a butterfly; a bee=honeybee|a honeybee;
 a ladybug=lady-beetle|a ladybird; a dinosaur=t-rex|a tyrannosaurus; a bat; a spider;
 a lobster; a chick=hatching-chick
food: a pizza|a slice of pizza; a hamburger|a burger; french fries=french-fries|fries;
 a hot dog=hot-dog|a sausage in a bun; a taco; a donut=doughnut|a doughnut;
 a cookie|a biscuit; a cake=birthday-cake|a birthday cake;
 an ice cream=soft-ice-cream|an ice cream cone; a croissant;
 a piece of cheese=cheese-wedge|cheese; a fried egg=cooking|an egg in a pan;
 an apple=red-apple|a red apple; a banana; a strawberry; grapes|a bunch of grapes;
 a watermelon|a slice of watermelon; a pineapple; a lemon;
 cherries|a pair of cherries; an avocado; a carrot;
 an ear of corn=ear-of-corn|corn|maize; broccoli; a mushroom|a toadstool;
 a cup of coffee=hot-beverage|coffee|a cup of tea; popcorn; a pretzel;
 an eggplant|an aubergine; a chili pepper=hot-pepper|a chili
vehicle: a car=automobile|an automobile; a bus|a coach; a bicycle|a bike;
 a train=locomotive|a steam locomotive; an airplane|a plane|an aeroplane;
 a rocket|a spaceship; a helicopter|a chopper; a sailboat|a sailing boat;
 a fire truck=fire-engine|a fire engine; a tractor; a ship|an ocean liner;
 a flying saucer=flying-saucer|a ufo; a scooter=motor-scooter|a motor scooter
object: an umbrella; a balloon; a guitar|an electric guitar;
 a soccer ball=soccer-ball|a football; a basketball; a crown;
 a diamond=gem-stone|a gem; a key; a clock=alarm-clock|an alarm clock; a house|a home;
 a castle|a fortress; the sun=sun|a sun; the moon=crescent-moon|a crescent moon;
 a star; a rainbow; a fire|a flame; a heart=red-heart|a red heart;
 a tree=deciduous-tree; a palm tree=palm-tree; a cactus; a sunflower;
 a rose|a red rose; a teddy bear=teddy-bear; a gift=wrapped-gift|a present;
 a trophy|a golden cup; a pumpkin=jack-o-lantern|a halloween pumpkin; an anchor;
 a volcano|an erupting volcano; an hourglass=hourglass-done;
 a magnet|a horseshoe magnet; a telephone|a phone; a bell
"""


@dataclass(frozen=True, slots=True)
class Concept:
    """Something that Petal can draw."""

    noun: str
    phrase: str
    icon: str
    synonyms: tuple[str, ...]
    group: str

    @property
    def phrases(self) -> tuple[str, ...]:
        """Every way to say it, with its article."""
        return (self.phrase, *self.synonyms)


def without_article(phrase: str) -> str:
    """The phrase as a name: *a dog* is *dog*."""
    first, _, rest = phrase.partition(" ")
    return rest if first in {"a", "an", "the"} and rest else phrase


def _parse(table: str) -> tuple[Concept, ...]:
    concepts = []
    group = ""
    for line in table.replace("\n ", " ").strip().splitlines():
        group, _, entries = line.partition(":")
        for entry in entries.split(";"):
            named, *synonyms = entry.strip().split("|")
            phrase, _, icon = named.partition("=")
            noun = without_article(phrase)
            icon = icon or noun.replace(" ", "-")
            concepts.append(Concept(noun, phrase, icon, tuple(synonyms), group))
    return tuple(concepts)


CONCEPTS = _parse(_TABLE)
"""All concepts, in the order that every stage and every report uses."""
