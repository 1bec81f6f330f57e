"""What the results page is made of: tables, tests of differences, and the sections that belong to no benchmark."""
