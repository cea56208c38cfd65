"""Lists the kinds of stories, as words only.

Every verb's participle equals its past form, because one sentence grammar serves all
kinds. What things `were` or `were not` must be possible for each item of the story.
"""

from training.data.problems.words import Measure, Noun, Story, Work, nouns

_COST = Measure("cost", "cost", "dollars", "cost")
_WEIGHT = Measure("weighed", "weigh", "kilograms", "weight")
_GRAMS = Measure("weighed", "weigh", "grams", "weight")
_PAID = Measure("paid", "pay", "dollars", "paid")
_MINUTE = Noun("minute", "minutes")
_HOUR = Noun("hour", "hours")
_DAY = Noun("day", "days")
_WEEK = Noun("week", "weeks")

_ALL = (
    Story(
        name="bakery",
        subjects=("the bakery", "the corner cafe", "the night baker"),
        past="baked",
        base="bake",
        items=nouns(
            "roll, muffin, bagel, croissant, cookie, pie, tart, pretzel, scone, brownie, "
            "cupcake, waffle"
        ),
        parts=("sold", "glazed", "frozen"),
        packed="packed",
        containers=nouns("box/boxes, bag, tray"),
        places=nouns("shop, shelf/shelves, table"),
        measures=(_COST, Measure("needed", "need", "grams of flour", "flour")),
        work=Work("wrapped", "wrapping", _MINUTE),
        time=_HOUR,
    ),
    Story(
        name="farm",
        subjects=("the farm", "the farmer", "the valley farm"),
        past="harvested",
        base="harvest",
        items=nouns(
            "pumpkin, melon, cabbage, onion, carrot, potato/potatoes, turnip, beet, leek, "
            "cucumber, pepper, tomato/tomatoes"
        ),
        parts=("sold", "washed", "eaten"),
        packed="packed",
        containers=nouns("crate, sack, basket"),
        places=nouns("market, truck, stall"),
        measures=(_COST, _GRAMS),
        work=Work("cleaned", "cleaning", _MINUTE),
        time=_DAY,
    ),
    Story(
        name="library",
        subjects=("the library", "the school library", "the librarian"),
        past="lent",
        base="lend",
        items=nouns(
            "novel, comic, atlas/atlases, cookbook, magazine, dictionary/dictionaries, "
            "biography/biographies, map, textbook, guidebook, notebook, diary/diaries"
        ),
        parts=("returned", "damaged", "renewed"),
        packed="stacked",
        containers=nouns("pile, box/boxes, cart"),
        places=nouns("class/classes, club, reader"),
        measures=(_COST, Measure("had", "have", "pages", "pages")),
        work=Work("scanned", "scanning", _MINUTE),
        time=_DAY,
    ),
    Story(
        name="bus",
        subjects=("the bus", "the ferry", "the night train"),
        past="transported",
        base="transport",
        items=nouns(
            "student, tourist, worker, teacher, visitor, pensioner, nurse, hiker, "
            "shopper, musician, soldier, player"
        ),
        parts=("delayed", "interviewed", "insured"),
        packed="seated",
        containers=nouns("cabin, van, wagon"),
        places=nouns("deck, guide, hotel"),
        measures=(_PAID, Measure("brought", "bring", "bags", "bags")),
        work=Work("checked in", "checking in", _MINUTE),
        time=_HOUR,
    ),
    Story(
        name="savings",
        subjects=("the family", "the youth club", "the shopkeeper"),
        past="saved",
        base="save",
        items=nouns(
            "penny/pennies, nickel, dime, peso, silver coin, gold coin, bronze coin, token, "
            "voucher, ticket, coupon, stamp"
        ),
        parts=("spent", "donated", "polished"),
        packed="put",
        containers=nouns("jar, envelope, roll"),
        places=nouns("child/children, charity/charities, drawer"),
        measures=(_GRAMS, Measure("bought", "buy", "sweets", "sweets")),
        work=Work("counted", "counting", _MINUTE),
        time=_WEEK,
    ),
    Story(
        name="garden",
        subjects=("the gardener", "the garden club", "the park crew"),
        past="planted",
        base="plant",
        items=nouns(
            "rose, tulip, lily/lilies, daisy/daisies, sunflower, fern, violet, poppy/poppies, "
            "orchid, pansy/pansies, iris/irises, daffodil"
        ),
        parts=("watered", "trimmed", "moved"),
        packed="set",
        containers=nouns("row, pot, bed"),
        places=nouns("garden, yard, helper"),
        measures=(_COST, Measure("grew", "grow", "leaves", "leaves")),
        work=Work("labelled", "labelling", _MINUTE),
        time=_HOUR,
    ),
    Story(
        name="warehouse",
        subjects=("the warehouse", "the shipping office", "the loading crew"),
        past="shipped",
        base="ship",
        items=nouns(
            "lamp, chair, fan, heater, printer, monitor, keyboard, mirror, carpet, clock, "
            "speaker, radio"
        ),
        parts=("insured", "returned", "inspected"),
        packed="loaded",
        containers=nouns("pallet, crate, container"),
        places=nouns("truck, store, dock"),
        measures=(_COST, _WEIGHT),
        work=Work("scanned", "scanning", _MINUTE),
        time=_HOUR,
    ),
    Story(
        name="school",
        subjects=("the school", "the teacher", "the art class"),
        past="ordered",
        base="order",
        items=nouns(
            "pencil, eraser, ruler, crayon, marker, folder, pen, brush/brushes, glue stick, "
            "sketchbook, compass/compasses, sharpener"
        ),
        parts=("used", "broken", "stored"),
        packed="packed",
        containers=nouns("box/boxes, pack, case"),
        places=nouns("class/classes, desk, student"),
        measures=(_COST, _GRAMS),
        work=Work("sorted", "sorting", _MINUTE),
        time=_WEEK,
    ),
    Story(
        name="orchard",
        subjects=("the orchard", "the fruit grower", "the hillside orchard"),
        past="picked",
        base="pick",
        items=nouns(
            "apple, pear, plum, peach/peaches, cherry/cherries, apricot, fig, lemon, orange, "
            "lime, nectarine, quince"
        ),
        parts=("sold", "dried", "bruised"),
        packed="packed",
        containers=nouns("crate, basket, bucket"),
        places=nouns("stand, neighbor, market"),
        measures=(_COST, Measure("gave", "give", "spoons of juice", "juice")),
        work=Work("washed", "washing", _MINUTE),
        time=_HOUR,
    ),
    Story(
        name="toy_shop",
        subjects=("the toy shop", "the toy maker", "the game store"),
        past="sold",
        base="sell",
        items=nouns(
            "doll, puzzle, kite, robot, ball, drum, yo-yo, top, puppet, train set, teddy bear, "
            "toy car"
        ),
        parts=("gift-wrapped", "mailed", "returned"),
        packed="packed",
        containers=nouns("box/boxes, bag, carton"),
        places=nouns("kindergarten, hospital, school"),
        measures=(_COST, Measure("used", "use", "batteries", "batteries")),
        work=Work("tested", "testing", _MINUTE),
        time=_DAY,
    ),
    Story(
        name="craft",
        subjects=("the craft club", "the workshop", "the craft fair team"),
        past="made",
        base="make",
        items=nouns(
            "necklace, bracelet, candle, scarf/scarves, mitten, basket, bowl, mask, quilt, "
            "lantern, cushion, ribbon"
        ),
        parts=("painted", "sold", "signed"),
        packed="packed",
        containers=nouns("box/boxes, bag, chest"),
        places=nouns("stall, friend, shop"),
        measures=(_COST, Measure("needed", "need", "beads", "beads")),
        work=Work("polished", "polishing", _MINUTE),
        time=_DAY,
    ),
    Story(
        name="beach",
        subjects=("the hiking group", "the beach crew", "the scout troop"),
        past="collected",
        base="collect",
        items=nouns(
            "shell, pebble, bottle, can, feather, starfish/starfish, cork, crystal, stick, "
            "fossil, bead, net"
        ),
        parts=("cleaned", "recycled", "displayed"),
        packed="put",
        containers=nouns("bucket, sack, jar"),
        places=nouns("museum, class/classes, camper"),
        measures=(_GRAMS, Measure("earned", "earn", "points", "points")),
        work=Work("sorted", "sorting", _MINUTE),
        time=_HOUR,
    ),
    Story(
        name="zoo",
        subjects=("the zoo", "the safari park", "the wildlife center"),
        past="fed",
        base="feed",
        items=nouns(
            "monkey, parrot, penguin, tiger, zebra, lizard, flamingo/flamingos, camel, otter, "
            "tortoise, wolf/wolves, deer/deer"
        ),
        parts=("vaccinated", "tagged", "weighed"),
        packed="kept",
        containers=nouns("cage, barn, enclosure"),
        places=nouns("keeper, island, hall"),
        measures=(
            Measure("ate", "eat", "kilograms of food", "food"),
            Measure("drank", "drink", "liters of water", "water"),
        ),
        work=Work("examined", "examining", _HOUR),
        time=_HOUR,
    ),
    Story(
        name="post_office",
        subjects=("the post office", "the mail carrier", "the courier"),
        past="delivered",
        base="deliver",
        items=nouns(
            "letter, parcel, postcard, newspaper, catalog, flyer, package, telegram, invitation, "
            "bill, contract, leaflet"
        ),
        parts=("stamped", "sealed", "opened"),
        packed="bundled",
        containers=nouns("stack, bag, bin"),
        places=nouns("street, office, building"),
        measures=(_COST, _GRAMS),
        work=Work("sorted", "sorting", _MINUTE),
        time=_HOUR,
    ),
    Story(
        name="kitchen",
        subjects=("the restaurant", "the cook", "the food truck"),
        past="served",
        base="serve",
        items=nouns(
            "burger, salad, soup, pizza, omelet, taco, sandwich/sandwiches, pancake, kebab, "
            "noodle bowl, steak, dumpling"
        ),
        parts=("salted", "reheated", "spiced"),
        packed="packed",
        containers=nouns("bowl, box/boxes, basket"),
        places=nouns("table, guest, room"),
        measures=(_COST, Measure("had", "have", "calories", "calories")),
        work=Work("checked", "checking", _MINUTE),
        time=_HOUR,
    ),
    Story(
        name="workshop",
        subjects=("the carpenter", "the furniture factory", "the repair shop"),
        past="built",
        base="build",
        items=nouns(
            "table, stool, bench/benches, shelf/shelves, cabinet, ladder, crate, desk, bed, "
            "door, frame, birdhouse"
        ),
        parts=("varnished", "sold", "repaired"),
        packed="loaded",
        containers=nouns("van, cart, trailer"),
        places=nouns("hotel, customer, school"),
        measures=(_COST, Measure("needed", "need", "screws", "screws")),
        work=Work("sanded", "sanding", _HOUR),
        time=_WEEK,
    ),
    Story(
        name="fishing",
        subjects=("the fishing boat", "the harbor crew", "the old trawler"),
        past="caught",
        base="catch",
        items=nouns(
            "crab, lobster, shrimp/shrimp, mackerel/mackerel, eel, squid/squid, oyster, mussel, "
            "clam, octopus/octopuses, sardine, herring"
        ),
        parts=("released", "cooked", "smoked"),
        packed="packed",
        containers=nouns("barrel, cooler, tub"),
        places=nouns("cafe, boat, buyer"),
        measures=(_COST, _GRAMS),
        work=Work("cleaned", "cleaning", _MINUTE),
        time=_DAY,
    ),
    Story(
        name="museum",
        subjects=("the museum", "the gallery", "the curator"),
        past="bought",
        base="buy",
        items=nouns(
            "painting, statue, vase, mummy/mummies, sword, helmet, drawing, photo, medal, crown, "
            "tapestry/tapestries, model"
        ),
        parts=("restored", "cleaned", "photographed"),
        packed="shown",
        containers=nouns("case, crate, cabinet"),
        places=nouns("hall, room, gallery/galleries"),
        measures=(_COST, _WEIGHT),
        work=Work("dusted", "dusting", _MINUTE),
        time=_WEEK,
    ),
)

STORIES = {story.name: story for story in _ALL}
STORY_KINDS: tuple[str, ...] = tuple(STORIES)
"""The names of all kinds of stories."""
