-- The sample database: a small shop. Run once, in one transaction, in the database shop.

CREATE TABLE customers (
    id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    city text NOT NULL
);

CREATE TABLE products (
    id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name  text NOT NULL UNIQUE,
    price numeric(8, 2) NOT NULL CHECK (price >= 0)
);

CREATE TABLE orders (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES customers,
    ordered_on  date NOT NULL
);

CREATE TABLE order_items (
    order_id   integer NOT NULL REFERENCES orders,
    product_id integer NOT NULL REFERENCES products,
    quantity   integer NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, product_id)
);

INSERT INTO customers (name, city) VALUES
    ('Ada', 'London'), ('Grace', 'New York'), ('Edsger', 'Rotterdam'), ('Barbara', 'Boston'),
    ('Niklaus', 'Zürich'), ('Frances', 'Peru'), ('Tony', 'Oxford'), ('Margaret', 'Paoli');

INSERT INTO products (name, price) VALUES
    ('kettle', 39.90), ('tea pot', 24.50), ('cup', 6.00), ('saucer', 4.50), ('spoon', 2.20),
    ('green tea', 8.40), ('black tea', 7.10), ('biscuits', 3.30);

INSERT INTO orders (customer_id, ordered_on)
    SELECT 1 + n % 8, date '2026-01-01' + n
    FROM generate_series(1, 200) AS n;

INSERT INTO order_items (order_id, product_id, quantity)
    SELECT o.id, 1 + (o.id * 3 + k) % 8, 1 + (o.id + k) % 4
    FROM orders AS o, generate_series(0, 2) AS k;

CREATE VIEW sales AS
    SELECT p.name AS product, sum(i.quantity) AS sold, sum(i.quantity * p.price) AS turnover
    FROM order_items AS i JOIN products AS p ON p.id = i.product_id
    GROUP BY p.name;

GRANT USAGE ON SCHEMA public TO proxyd_svc, alice;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO proxyd_svc;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO alice;
