"""Words that the stand-in exchanges: names, things, phrases of one meaning, irrelevant facts."""

from training.data.problems.words import Noun, nouns

FEMALE = frozenset(
    "Abby Abigail Adriana Aisha Alana Alexa Alexandra Alice Alicia Alina Allison Alyssa "
    "Amanda Amber Amelia Amy Ana Andrea Angela Anita Ann Anna Anne Annie Antonia Aria Ariana "
    "Ashley Audrey Aurora Ava Barbara Beatrice Becky Bella Beth Betty Brenda Brianna Bridget "
    "Brittany Camila Carla Carly Carmen Carol Caroline Carrie Catherine Cecilia Celia "
    "Charlotte Chelsea Cheryl Chloe Christina Cindy Claire Clara Claudia Cora Courtney "
    "Crystal Cynthia Dana Daniela Daphne Deborah Delia Denise Diana Diane Donna Dora Doris "
    "Dorothy Edith Eileen Elaine Eleanor Elena Elisa Eliza Elizabeth Ella Ellen Eloise Elsa "
    "Emily Emma Erica Erika Erin Esther Eva Evelyn Fatima Felicia Fiona Florence Frances "
    "Gabriela Gail Gina Gita Gloria Greta Gwen Haley Hana Hannah Harriet Heather Heidi Helen "
    "Helena Holly Ingrid Irene Iris Isabel Isabella Jacqueline Jamila Jane Janet Janice "
    "Jasmine Jean Jenna Jennifer Jenny Jessica Jill Joan Joanna Josephine Joyce Judith Judy "
    "Julia Juliana Julie Juliet Kaitlyn Karen Kate Katherine Kathy Katie Katy Kayla Keisha "
    "Kendra Kiara Kira Kristen Kristina Kylie Lara Laura Lauren Layla Lea Leah Leila Lena "
    "Lillian Linda Lisa Lola Lorraine Louisa Lucia Lucy Luna Lydia Mabel Madison Maggie "
    "Mandy Mara Margaret Maria Marie Marina Marissa Marla Marlene Martha Mary Matilda Maya "
    "Megan Melanie Melissa Mia Michelle Mila Miranda Molly Monica Nadia Nancy Naomi Natalia "
    "Natalie Nicole Nina Nora Norma Olga Olivia Pamela Patricia Paula Pauline Peggy Penelope "
    "Phoebe Priya Rachel Ramona Rebecca Regina Rita Rosa Rosalie Rosie Roxanne Ruth Sabrina "
    "Sally Samantha Sandra Sara Sarah Selena Serena Shannon Sharon Sheila Shelby Shelly "
    "Shirley Silvia Simone Sofia Sonia Sophia Sophie Stacy Stella Stephanie Susan Susie "
    "Suzanne Sylvia Tamara Tanya Tara Teresa Tessa Theresa Tiffany Tina Tracy Valerie "
    "Vanessa Vera Veronica Victoria Violet Vivian Wanda Wendy Weng Yara Yasmin Yolanda "
    "Yvonne Zara Zoe Zoey".split()
)
MALE = frozenset(
    "Aaron Adam Adrian Ahmed Alan Albert Alejandro Alexander Alfred Ali Allen Alvin Amir Andre "
    "Andrew Andy Anthony Antonio Arnold Arthur Arturo Barry Ben Benjamin Bernard Billy Bob Bobby "
    "Boris Brad Bradley Brandon Brendan Brett Brian Bruce Bruno Bryan Caleb Calvin Carl Carlos "
    "Cedric Cesar Chad Charles Charlie Christian Christopher Clarence Clark Colin Connor Craig "
    "Curtis Damian Dan Daniel Danny Darren Dave David Dennis Derek Derrick Desmond Diego Dmitri "
    "Dominic Donald Douglas Duncan Dustin Dylan Edgar Eduardo Edward Edwin Eli Elias Elijah Elliot "
    "Emil Eric Ernest Ethan Eugene Evan Felipe Felix Fernando Finn Francis Francisco Fred Freddy "
    "Frederick Gabriel Gary Gavin Geoffrey George Gerald Gilbert Glenn Gordon Graham Greg Gregory "
    "Hank Hans Harold Harry Hassan Hector Henry Herbert Howard Hugo Ian Igor Isaac Ivan Jacob Jake "
    "James Jared Jason Javier Jeff Jeffrey Jeremiah Jeremy Jerome Jerry Jim Jimmy Joe Joel Joey "
    "John Johnny Jon Jonah Jonathan Jorge Jose Joseph Josh Joshua Juan Julian Julio Justin Karim "
    "Karl Keith Ken Kenneth Kenny Kevin Kofi Kurt Kyle Lamar Larry Lars Lawrence Leo Leon Leonard "
    "Leroy Liam Logan Lorenzo Lou Louis Luca Lucas Luis Luke Malcolm Manny Manuel Marco Marcus "
    "Mario Marshall Martin Marvin Mason Matt Matthew Maurice Michael Miguel Mike Mitchell Mohamed "
    "Nathan Nathaniel Neil Nelson Nicholas Nick Noah Norman Oliver Omar Oscar Owen Pablo Patrick "
    "Paul Pedro Pete Peter Phil Philip Phillip Pierre Rafael Rahul Ralph Ramon Randy Raul Raymond "
    "Ricardo Richard Rick Ricky Robert Roberto Roger Roland Roman Ron Ronald Ruben Rudy Russell "
    "Ryan Samir Samuel Santiago Scott Sean Sebastian Sergio Seth Shane Shawn Simon Spencer Stanley "
    "Stefan Stephen Steve Steven Stuart Tariq Ted Terrence Theo Theodore Thomas Tim Timothy Toby "
    "Todd Tom Tommy Tony Travis Trevor Tyler Umar Victor Vincent Vladimir Walter Warren Wayne "
    "Wesley William Winston Xavier Yusuf Zachary".split()
)
EITHER = frozenset("Alex Casey Chris Jamie Jay Jordan Kelly Kim Lee Robin Sam Taylor Terry".split())

THINGS: tuple[tuple[Noun, ...], ...] = (
    nouns(
        "apple, orange, banana, pear, peach/peaches, plum, mango/mangoes, lemon, lime, apricot, "
        "kiwi, fig, nectarine, papaya, pineapple, coconut, avocado, melon, tangerine, grapefruit"
    ),
    nouns(
        "marble, sticker, button, seashell, bead, bottle cap, trading card, stamp, badge, "
        "postcard, magnet, keychain, figurine, toy car, bracelet, ribbon, pin, token, "
        "pebble, crystal"
    ),
    nouns(
        "pencil, pen, eraser, notebook, crayon, marker, ruler, folder, highlighter, paintbrush"
        "/paintbrushes, sketchbook, binder, envelope, index card, sharpener, stapler"
    ),
    nouns(
        "rose, tulip, daisy/daisies, lily/lilies, sunflower, daffodil, orchid, carnation, violet, "
        "marigold, peony/peonies, poppy/poppies, iris/irises, dahlia"
    ),
    nouns(
        "cookie, cupcake, muffin, brownie, scone, biscuit, doughnut, macaroon, tart, "
        "pastry/pastries"
    ),
    nouns(
        "tomato/tomatoes, potato/potatoes, carrot, cucumber, pepper, onion, turnip, beet, radish"
        "/radishes, cabbage, zucchini/zucchinis, eggplant, pumpkin, leek"
    ),
    nouns("balloon, kite, whistle, puzzle, yo-yo, doll, robot, puppet, teddy bear"),
    nouns("car, van, truck, minivan, pickup"),
    nouns("movie, film, documentary/documentaries, cartoon"),
    nouns("book, novel, magazine, comic, cookbook, textbook"),
    nouns("shirt, sweater, jacket, hoodie, dress/dresses, skirt, blouse, vest, coat"),
    nouns("chair, stool, bench/benches, armchair"),
    nouns("friend, cousin, neighbor, classmate, coworker, teammate"),
    nouns("restaurant, diner, bistro, cafe, pizzeria"),
    nouns("lollipop, gumdrop, jelly bean, caramel, mint, toffee"),
    nouns("sandwich/sandwiches, burger, wrap, bagel, hot dog, taco, burrito"),
    nouns("lamp, vase, clock, mirror, candle, cushion, picture frame, blanket, pillow"),
    nouns("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday"),
)
"""Groups in which every thing can stand for every other one."""

PHRASES: tuple[tuple[str, ...], ...] = (
    ("bought", "purchased"),
    ("buys", "purchases"),
    ("buying", "purchasing"),
    ("decides to", "chooses to"),
    ("decided to", "chose to"),
    ("wants to", "would like to", "is planning to", "hopes to"),
    ("wanted to", "hoped to", "planned to"),
    ("needs to", "has to"),
    ("need to", "have to"),
    ("every day", "each day"),
    ("every week", "each week"),
    ("every month", "each month"),
    ("every year", "each year"),
    ("per day", "each day", "a day"),
    ("per week", "each week", "a week"),
    ("per hour", "an hour", "every hour"),
    ("received", "got"),
    ("receives", "gets"),
    ("the store", "the shop", "the supermarket", "the market"),
    ("a store", "a shop", "a supermarket"),
    ("kids", "children"),
    ("children", "kids"),
    ("mom", "mother"),
    ("dad", "father"),
    ("mother", "mom"),
    ("father", "dad"),
    ("costs $", "is priced at $"),
    ("earns $", "makes $", "is paid $"),
    ("spent $", "paid $"),
    ("students", "pupils", "learners"),
    ("teacher", "instructor", "tutor"),
    ("bike", "bicycle"),
    ("farm", "ranch"),
    ("party", "celebration", "gathering"),
    ("large", "big"),
    ("is planning", "is preparing"),
    ("currently", "at the moment", "right now"),
    ("In addition", "Additionally", "On top of that"),
    ("However", "On the other hand"),
    ("After that", "Afterwards", "Later on"),
    ("Then", "After that", "Next"),
    ("During", "Over the course of"),
    ("twice as many", "two times as many"),
    ("twice as much", "two times as much"),
    ("three times as many", "triple as many"),
    ("the rest of", "the remainder of"),
    ("half of", "one half of", "50% of"),
    ("How much money does", "What amount of money does", "How many dollars does"),
    ("How much money did", "What amount of money did", "How many dollars did"),
    ("What is the total number of", "What is the overall number of", "Find the total number of"),
    ("Calculate the total", "Find the total", "Work out the total"),
    ("If", "Given that", "Assuming"),
)
"""Phrases that can replace the first of each tuple without a change of meaning."""

ENDINGS = ("in total", "altogether", "in all", "all together", "overall")
"""Alternatives at the end of a sentence."""

OPENERS = (
    "In {place}, ",
    "Somewhere in {place}, ",
    "Near {place}, ",
    "On the outskirts of {place}, ",
    "In a quiet part of {place}, ",
    "In a small town not far from {place}, ",
)
LOWERED = frozenset(("A", "An", "The", "There", "Each", "Every", "Some"))
"""First words of a question that begin with a small letter after an opener."""
PLACES = tuple(
    "Springfield, Riverside, Oakdale, Maplewood, Lakeview, Fairview, Brookfield, Hillsboro, "
    "Kingston, Milton, Clayton, Ashland, Dover, Salem, Burlington, Greenville, Franklin, "
    "Clinton, Bristol, Georgetown, Manchester, Oxford, Auburn, Newport, Winchester, "
    "Lexington, Denver, Portland, Phoenix, Seattle, Boston, Chicago, Houston, Dallas, "
    "Atlanta, Nairobi, Lagos, Cairo, Mumbai, Delhi, Manila, Lima, Bogota, Santiago, Madrid, "
    "Lisbon, Berlin, Vienna, Prague, Warsaw, Dublin, Glasgow, Toronto, Montreal, Sydney, "
    "Melbourne, Auckland, Osaka, Seoul, Hanoi".split(", ")
)

FACTS = (
    "{name} is {number} years old.",
    "{name} lives {number} blocks away from the {place}.",
    "{name} has {number} {things} at home.",
    "{name} also owns {number} {adjective} {things}.",
    "{name}'s {relative} is {number} years old.",
    "{name}'s {relative} collected {number} {things} last {season}.",
    "{name}'s {relative} gave away {number} {adjective} {things} {when}.",
    "{name}'s {relative} lives {number} miles from the {place}.",
    "There are {number} {adjective} {things} in the {place} nearby.",
    "The {place} is {number} years old.",
    "The {place} has {number} {adjective} windows.",
    "The {place} opened {number} months ago.",
    "The {place} has {number} parking spots.",
    "It rained on {number} days last {season}.",
    "The temperature was {number} degrees {when}.",
    "The bus number {number} stops in front of the {place}.",
    "{when_capital}, {name} counted {number} {things} near the {place}.",
    "{when_capital}, {name} saw {number} birds at the {place}.",
    "{when_capital}, {name} walked {number} minutes to the {place}.",
    "{name} once read a book with {number} pages about {things}.",
    "{name}'s favorite number is {number}.",
    "{name}'s shoe size is {number}.",
    "A {adjective} poster with {number} {things} hangs in the {place}.",
    "Last {season}, the {place} sold {number} {adjective} {things} to tourists.",
)
"""Facts that no question needs, as in GSM-IC (arXiv 2302.00093)."""
RELATIVES = tuple(
    "brother, sister, uncle, aunt, grandfather, grandmother, nephew, niece, roommate, dentist, "
    "landlord, boss, best friend, coach, piano teacher, gardener".split(", ")
)
SEASONS = ("spring", "summer", "autumn", "winter", "month", "weekend", "year")
WHEN = tuple(
    "yesterday, two days ago, last week, last month, this morning, on the weekend, before dinner, "
    "after school, during the holidays, a few years ago, the other day, on a rainy afternoon".split(
        ", "
    )
)
ADJECTIVES = tuple(
    "red, blue, green, yellow, purple, white, black, silver, tiny, huge, old, new, shiny, dusty, "
    "wooden, broken, colorful, handmade, expensive, cheap, heavy, pretty, striped, round".split(
        ", "
    )
)
SIGHTS = tuple(
    "library, post office, town hall, museum, train station, bakery, school, hospital, stadium, "
    "swimming pool, theater, church, bank, gas station, hotel, factory, harbor, fire station, "
    "shopping mall, gym, zoo, airport, bookstore, barber shop".split(", ")
)
