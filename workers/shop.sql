-- The shop of order_fulfilment.py. Safe to run again.
create schema if not exists example_shop;

create table if not exists example_shop.products (
    sku      text primary key,
    price    numeric(10, 2) not null,
    in_stock integer not null check (in_stock >= 0)
);

-- A step that runs twice finds the row of its first run under the same key.
create table if not exists example_shop.reservations (
    key      text not null,
    sku      text not null references example_shop.products,
    quantity integer not null check (quantity > 0),
    primary key (key, sku)
);
create table if not exists example_shop.payments (
    key      text primary key,
    order_id integer not null,
    amount   numeric(10, 2) not null
);
create table if not exists example_shop.shipments (
    key      text primary key,
    order_id integer not null,
    parcels  integer not null
);

insert into example_shop.products (sku, price, in_stock)
values ('lamp', 24.90, 1000000), ('desk', 189.00, 1000000), ('chair', 79.50, 1000000), ('unicorn', 0.99, 0)
on conflict do nothing;
